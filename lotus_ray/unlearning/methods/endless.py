"""Batches of a set without end, for methods that walk one set beside another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, SampleSet


def endless(samples: SampleSet, batch_size: int, *names: object) -> Iterator[Batch]:
    """Yield batches without end, each pass in an order of its own: (seed, *names, pass) decide it.

    Args:
        samples: to walk over, again and again.
        batch_size: rows of a global batch.
        names: of the order.

    Raises:
        MethodError: there is no sample.
    """
    if not len(samples):
        raise MethodError(
            "this method takes batches of both sets, and one of them is empty",
            where="forget",
            nearest="forget: {fraction: 0.1}",
            next_command="lotus-ray validate JOB.yaml",
        )
    for turn in count():
        yield from samples.shuffled(batch_size, *names, turn)
