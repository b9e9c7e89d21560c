"""A part of a data set for quick runs, drawn by a fixed rule."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lotus_ray.base import seeds
from lotus_ray.data.sources import HELDOUT, TRAIN


def cut(labels: pa.Table, train_per_class: int | None, heldout_per_class: int | None) -> pa.Table:
    """Keep the first images of each class and split, in an order drawn from their ids alone.

    So a smaller part is contained in a larger one, and no seed of a job changes it.

    Args:
        labels: sample_id, label and split of every image.
        train_per_class: how many training images of each class to keep; None keeps all.
        heldout_per_class: how many held-out ones.
    """
    keys = seeds.sample_keys(labels["sample_id"].to_pylist())
    order = np.argsort(seeds.scores(keys, 0, "subset").numpy(), kind="stable")
    classes, splits = labels["label"].to_numpy(), np.array(labels["split"].to_pylist())
    kept = np.zeros(len(labels), dtype=bool)
    for split, most in ((TRAIN, train_per_class), (HELDOUT, heldout_per_class)):
        of_split = order[splits[order] == split]
        for label in np.unique(classes[of_split]):
            kept[of_split[classes[of_split] == label][:most]] = True
    return labels.filter(pa.array(kept))
