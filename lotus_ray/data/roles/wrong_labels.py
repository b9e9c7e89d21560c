"""Wrong labels of training images, for an original to be trained on: noise, or a swap.

Which images get them is drawn from their ids alone: a fixed fault of the data, which no seed of a
job changes. Held-out images keep their labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lotus_ray.base import seeds
from lotus_ray.data.sources import TRAIN

WrongLabels = dict[str, int]  # by sample id


def noise(labels: pa.Table, num_classes: int, share: float) -> WrongLabels:
    """Give a share of the training images of each class a label of another class.

    Args:
        labels: sample_id, label and split of every image.
        num_classes: C. The wrong label is drawn uniformly from the C − 1 others.
        share: of each class, rounded to images.
    """
    wrong: WrongLabels = {}
    for label, ids in _drawn(labels, share, range(num_classes)):
        if ids:
            drawn = seeds.uniform(seeds.sample_keys(ids), 1, 0, "wrong label")[:, 0].numpy()
            steps = 1 + np.floor(drawn * (num_classes - 1)).astype(int)
            wrong |= zip(ids, ((label + steps) % num_classes).tolist(), strict=True)
    return wrong


def swap(labels: pa.Table, first: int, second: int, share: float) -> WrongLabels:
    """Give a share of the training images of each of two classes the label of the other.

    Args:
        labels: sample_id, label and split of every image.
        first: label of one class.
        second: label of the other.
        share: of each of them, rounded to images.
    """
    other = {first: second, second: first}
    return {
        name: other[label] for label, ids in _drawn(labels, share, (first, second)) for name in ids
    }


def _drawn(
    labels: pa.Table, share: float, classes: tuple[int, ...] | range
) -> Iterator[tuple[int, list[str]]]:
    """Yield each class, and the share of its training images whose ids come first."""
    ids = labels["sample_id"].to_pylist()
    values, splits = labels["label"].to_numpy(), np.array(labels["split"].to_pylist())
    order = np.argsort(
        seeds.scores(seeds.sample_keys(ids), 0, "wrong labels").numpy(), kind="stable"
    )
    trained = order[splits[order] == TRAIN]
    for label in classes:
        members = trained[values[trained] == label]
        yield label, [ids[row] for row in members[: round(share * len(members))]]
