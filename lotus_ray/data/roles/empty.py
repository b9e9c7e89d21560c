"""Why a role is empty, said for each role and each cause."""

from __future__ import annotations

import numpy as np

from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import FORGET, RETAIN
from lotus_ray.data.sources import HELDOUT, TRAIN


def empty_role(role: str, splits: np.ndarray, classes: np.ndarray) -> DataError:
    """Return the error for a role that no sample has.

    Args:
        role: of the four that are evaluated.
        splits: of each sample of the data set [N].
        classes: label of each sample [N].
    """
    trained, held_out = int((splits == TRAIN).sum()), int((splits == HELDOUT).sum())
    if role in (FORGET, RETAIN) and not trained:
        why, next_command = "no image is for training", "lotus-ray prepare SOURCE DEST"
    elif role == FORGET:
        why = f"the forget set of the job chooses none of {trained} training images"
        next_command = "change forget; lotus-ray validate JOB.yaml"
    elif role == RETAIN:
        why = f"none of {trained} training images is left to retain"
        next_command = "change forget or retain; lotus-ray validate JOB.yaml"
    elif not held_out:
        why = "no image is held out"
        next_command = "lotus-ray prepare image_folder DEST --root FOLDER --heldout 0.2"
    else:
        most = int(np.bincount(classes[splits == HELDOUT]).max())
        why = (
            f"{held_out} held-out images are too few, {most} per class at most: half of those of "
            "a class are unseen, rounded up, and the others test"
        )
        next_command = "hold out two images of each class or more"
    return DataError(f"the role {role} is empty: {why}", next_command=next_command)
