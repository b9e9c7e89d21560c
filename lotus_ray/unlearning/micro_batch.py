"""Run a step in parts, so that its activations fit in memory. The gradient is that of the whole.

A loss is a share of a mean over the global batch. So the shares of the parts of a batch add up to
that of the batch, and so do their gradients, up to rounding. The random numbers that a network
draws itself (dropout, stochastic depth) are others in parts than in the whole: results of such a
network depend on the size of the parts. Numbers that a method draws are keyed by sample, and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.memory import is_out_of_memory, release_memory

Whole = TypeVar("Whole")
Answer = TypeVar("Answer")

_MORE_THAN_A_BATCH = 1 << 20  # images; halves of it are powers of two


@dataclass
class MicroBatch:
    """How many images a worker takes through forward and backward together, in one cell.

    Args:
        most: images of a part on one worker; None is the whole batch.
        is_auto: True to choose the size, and to take smaller parts after the memory ran out.
        obstacle: why steps cannot run in parts at present, or None. Such steps stay whole if the
            parts are chosen automatically, and raise the obstacle if a job asked for them.
    """

    most: int | None = None
    is_auto: bool = True
    obstacle: LotusRayError | None = None
    smallest: int | None = None  # `most` of the smallest part that ran; None: all were whole

    def run(
        self,
        whole: Whole,
        split: Callable[[Whole, int], Sequence[Whole]],
        attempt: Callable[[Sequence[Whole]], Answer],
        *,
        workers: int = 1,
    ) -> Answer:
        """Call `attempt` with the parts of a step. Out of memory, call it again with smaller ones.

        Every worker must call this if `attempt` exchanges data. Before a second attempt the random
        numbers are set back, and half as many images are in a part, down to one.

        Args:
            whole: the step.
            split: returns parts of at most so many images, counted over all workers.
            attempt: works on all parts; it must be able to start again.
            workers: that share the step. Several do not halve: the others would wait for one.

        Returns:
            What `attempt` returns.

        Raises:
            LotusRayError: the obstacle.
            RuntimeError: the memory is too small for one image, or may not be halved.
        """
        may_halve = self.is_auto and workers == 1 and self.obstacle is None
        parts = self._first_parts(whole, split, workers)
        while True:
            state = _random_state() if may_halve else []
            try:
                answer = attempt(parts)
            except (RuntimeError, MemoryError) as error:
                if not may_halve or not is_out_of_memory(error):
                    raise
                smaller = self._halved(whole, split, len(parts))
                if smaller is None:
                    raise
            else:
                self._record(len(parts))
                return answer
            # Outside the handler, where the error no longer holds the activations.
            self.most, parts = smaller
            _start_again(state)

    def each(self, index: Tensor, most: int, work: Callable[[Tensor], None]) -> None:
        """Call `work` with parts of `index`, int64 [n]; out of memory, with halves of a part.

        Args:
            index: of images. Each worker has its own, and may halve alone.
            most: images of a part where memory sets no limit.
            work: exchanges nothing, and can start again with the same images.
        """
        size = min(most, self.most or most)
        for part in torch.split(index, max(size, 1)):
            try:
                work(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) < 2 or not self.is_auto or not is_out_of_memory(error):
                    raise
            _start_again([])
            self.each(part, (len(part) + 1) // 2, work)

    def _first_parts(
        self, whole: Whole, split: Callable[[Whole, int], Sequence[Whole]], workers: int
    ) -> Sequence[Whole]:
        """Return the parts to begin with: one, unless a size is known."""
        if self.most is None:
            return [whole]
        parts = split(whole, self.most * workers)
        if len(parts) < 2 or self.obstacle is None:
            return parts
        if self.is_auto:
            return [whole]
        raise self.obstacle

    def _halved(
        self, whole: Whole, split: Callable[[Whole, int], Sequence[Whole]], count: int
    ) -> tuple[int, Sequence[Whole]] | None:
        """Return the largest power of two that makes more parts than `count`, and those parts."""
        most = _MORE_THAN_A_BATCH
        while most:
            if most < (self.most or _MORE_THAN_A_BATCH):
                parts = split(whole, most)
                if len(parts) > count:
                    return most, parts
            most //= 2
        return None

    def _record(self, parts: int) -> None:
        if parts > 1 and self.most is not None:
            self.smallest = min(self.smallest or self.most, self.most)


def _random_state() -> list[Tensor]:
    """Return the state of the generators that layers draw from: the CPU's, and the GPU's."""
    state = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state.append(torch.cuda.get_rng_state())
    return state


def _start_again(state: Sequence[Tensor]) -> None:
    """Give freed memory back, and set the generators back to a state."""
    release_memory()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    for value, restore in zip(state, (torch.set_rng_state, torch.cuda.set_rng_state), strict=False):
        restore(value)
