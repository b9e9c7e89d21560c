"""Passes through a network, and their cost.

The unit is U, one forward of one image. A backward to the weights counts as 2 U and a backward to
the image alone as 1 U, so training on an image is 3 U. Of training the last blocks alone U counts
the forward: how large the blocks are, and so their backward, depends on the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TRAIN, TO_IMAGE, FORWARD = "train", "to image", "forward"
TRAIN_LAST = "train the last blocks"
UNITS = {TRAIN: 3, TO_IMAGE: 2, FORWARD: 1, TRAIN_LAST: 1}  # U per image


@dataclass(frozen=True)
class Pass:
    """Batches that go through the network in the same way."""

    kind: str  # a key of UNITS
    batches: tuple[int, ...]  # images of each batch
    last: int = 0  # of TRAIN_LAST: how many blocks train

    @property
    def images(self) -> int:
        """Number of images that go forward."""
        return sum(self.batches)


@dataclass(frozen=True)
class Samples:
    """Sizes of a problem whose classes are equally large."""

    classes: int
    forget: int  # samples, over all classes
    retain: int  # samples, over all classes
    batch_size: int
    evaluation_rows: int  # rows of a batch of evaluation
    other_train: int = 0  # samples that only the original and the gold standard train on

    def part(self, fraction: float) -> int:
        """Return the number of samples in a fraction of the retain set."""
        return max(round(fraction * self.retain), 1)

    def train(self, count: int, kind: str = TRAIN) -> Pass:
        """Return a pass over `count` samples in ceil(count / batch_size) even batches."""
        steps = math.ceil(count / self.batch_size)
        return Pass(kind, tuple(count // steps + (step < count % steps) for step in range(steps)))

    def evaluate(self, count: int) -> Pass:
        """Return a pass without gradients over `count` samples, in batches of evaluation."""
        full, rest = divmod(count, self.evaluation_rows)
        return Pass(FORWARD, (self.evaluation_rows,) * full + (rest,) * bool(rest))


def units(passes: Iterable[Pass]) -> int:
    """Return the cost of passes in U."""
    return sum(UNITS[each.kind] * each.images for each in passes)


def forwards(passes: Iterable[Pass]) -> int:
    """Return the number of images that go forward."""
    return sum(each.images for each in passes)
