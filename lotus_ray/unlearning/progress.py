"""How far a phase has come, so that a checkpoint can be written within it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from lotus_ray.base import seeds
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.problem import Problem

TOGETHER = 8  # steps after which several workers add up their losses, and may look


@dataclass
class Progress:
    """The steps that a phase has done, and the loss of each.

    Several workers add up their losses after every eighth step, and once at the end. The first one
    can keep a checkpoint only then, as it needs the losses of all. By the same sum it tells the
    others that it wants to look whether a machine is about to go; they read it eight steps later,
    when it has long arrived, so that no GPU waits for it.
    """

    workers: Workers
    batches: Iterator[Any]  # that are left
    before: list[float] = field(default_factory=list)  # losses of the steps up to a checkpoint
    random: dict[str, Tensor] = field(default_factory=dict)  # at the checkpoint
    steps: int = field(init=False)  # done so far
    _sums: list[Tensor] = field(default_factory=list)  # losses [n] that were added up
    _shares: list[Tensor] = field(default_factory=list)  # of this worker, not yet added up
    _wanted: Tensor | None = None  # above 0 if the first worker wanted to look, eight steps ago

    def __post_init__(self) -> None:
        self.steps = len(self.before)

    def seed_layers(self, problem: Problem, index: int) -> None:
        """Before a step, seed dropout and the like.

        One worker draws on from the seed of the phase, (seed, rank, index). Several seed by (seed,
        rank, index, step), so that a checkpoint of the first need not hold the state of the others.
        """
        is_first = self.steps == len(self.before)
        if self.workers.size == 1 and not is_first:
            return
        if self.workers.size == 1 and self.random:
            _restore_random_state(problem, self.random)
            return
        step = (self.steps,) if self.steps or self.workers.size > 1 else ()
        names = ("stochastic layers", self.workers.rank, index, *step)
        torch.manual_seed(seeds.seed_for(problem.seed, *names))

    def add(self, share: Tensor) -> None:
        """Count a step, and keep this worker's share of its loss."""
        self._shares.append(share.detach())
        self.steps += 1

    def is_time(self, wants: Callable[[], bool]) -> bool:
        """Return True if the first worker wants to look now; every worker gets the same answer.

        Args:
            wants: of the first worker; others are not asked.
        """
        if self.workers.size == 1:
            return wants()
        if self.steps % TOGETHER:
            return False
        wish = self._shares[0].new_full((1,), float(self.workers.rank == 0 and wants()))
        before, total = self._wanted, self.workers.sum(torch.cat([torch.stack(self._shares), wish]))
        self._wanted = total[-1:]
        self._sums.append(total[:-1])
        self._shares.clear()
        return before is not None and bool(before > 0)

    def losses(self) -> list[float]:
        """Return the global mean loss of each step. Every worker must call this at the end.

        Within the phase, after `is_time`, the first worker may call it alone.
        """
        if self._shares:
            self._sums.append(self.workers.sum(torch.stack(self._shares)))
            self._shares.clear()
        return [*self.before, *chain.from_iterable(sums.tolist() for sums in self._sums)]


def skip(batches: Iterable[Any], count: int) -> Iterator[Any]:
    """Return an iterator over batches without the first `count`.

    Batches with a method `after` skip them without decoding. Of others they are made, and dropped.
    """
    if hasattr(batches, "after"):
        return iter(batches.after(count))
    iterator = iter(batches)
    next(islice(iterator, count, count), None)
    return iterator


def random_state(problem: Problem) -> dict[str, Tensor]:
    """Return the state of the generators that dropout and the like draw from, by device type.

    Several workers have one each, and seed it anew in each step: they need no state.
    """
    if problem.workers.size > 1:
        return {}
    state = {"cpu": torch.get_rng_state()}
    if problem.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(problem.device)
    return state


def _restore_random_state(problem: Problem, state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and problem.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], problem.device)
