"""Hold out a share of the images of each class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lotus_ray.base import seeds
from lotus_ray.base.errors import DataError, JobError
from lotus_ray.data.sources import HELDOUT, TRAIN, Images, Source


def check_option(source: Source, share: float | None) -> None:
    """Raise JobError if a share to hold out is given for a source that has its own split."""
    if share is not None and not source.can_hold_out:
        raise JobError(
            f"{source.name} has held-out images of its own",
            where=f"--heldout {share:g}",
            next_command="run it again without --heldout",
        )


def hold_out(source: Source, images: Images, share: float | None, where: str) -> Images:
    """Hold out a share of the training images of each class.

    The images of a class are drawn by their sample ids alone: at least one of two, and never all.

    Args:
        source: of the images.
        images: as they were opened.
        share: from 0 to 1; None leaves the images as they are.
        where: the folder, for the error.

    Raises:
        DataError: no share is given, and no image is held out.
    """
    if not source.can_hold_out:
        return images
    if share is None:
        if HELDOUT not in images.index["split"].unique().to_pylist():
            raise DataError(
                "no image is held out: nothing could measure what a model knows of new images",
                where=where,
                nearest="val/, valid/, validation/ or test/ beside train/",
                next_command="the same command with --heldout 0.2   (a fifth of each class; "
                "0 for a calibration set, which needs none)",
            )
        return images
    labels = images.index["label"].to_numpy()
    keys = seeds.sample_keys(images.index["sample_id"].to_pylist())
    order = np.argsort(seeds.scores(keys, 0, "hold out").numpy(), kind="stable")
    split = np.full(len(labels), TRAIN, dtype=object)
    for label in range(len(images.classes)) if share else ():
        members = order[labels[order] == label]
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        split[members[:count]] = HELDOUT
    index = images.index.set_column(1, "split", pa.array(split, pa.string()))
    note = f"{share:.4g} of each class is held out, drawn by the images' ids"
    return replace(images, index=index, notes=(*images.notes, *([note] if share else [])))
