"""The only training step and the only clock."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lotus_ray import seeds
from lotus_ray.errors import Diverged
from lotus_ray.problem import Method, Phase, Problem


@dataclass
class Clock:
    """Wall seconds by name. On a GPU the queue is drained before the clock is read."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the duration of the block to `seconds[name]`."""
        start = self._now()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class PhaseRecord:
    """What one phase did. `losses` holds the global mean loss of each step, in order."""

    losses: list[float]
    notes: dict[str, float]


def unlearn(
    method: Method,
    problem: Problem,
) -> list[PhaseRecord]:
    """Change `problem.model` in place as `method` says.

    Args:
        method: an entry of METHODS with its hyper-parameters.
        problem: models, splits and workers; every worker calls this with its own share.

    Returns:
        One record a phase. A method that yields no phase returns none.

    Raises:
        Diverged: a loss, or a weight at the end, is NaN or infinite.
    """
    torch.manual_seed(seeds.seed_for(problem.seed, "stochastic layers", problem.workers.rank))
    records: list[PhaseRecord] = []
    replica: nn.Module | None = None
    for index, phase in enumerate(method.phases(problem)):
        replica = replica or problem.workers.replicate(problem.model)
        records.append(_train(phase, replica, problem, index))
    problem.model.eval()
    _check_finite(problem.model)
    return records


def _check_finite(model: nn.Module) -> None:
    """Raise Diverged where a weight is NaN or infinite: the last step's loss cannot show it."""
    state = [value for value in model.state_dict().values() if value.is_floating_point()]
    if not bool(torch.stack([value.isfinite().all() for value in state]).all()):
        raise Diverged("weights are NaN or infinite after the last step")


def _train(phase: Phase[Any], replica: nn.Module, problem: Problem, index: int) -> PhaseRecord:
    replica.train()
    shares: list[Tensor] = []
    for batch in phase.batches:
        phase.optimizer.zero_grad(set_to_none=True)
        share = phase.loss(replica, batch)
        # A replica averages gradients over workers; a share is already divided by the global batch.
        (share * problem.workers.size).backward()  # type: ignore[no-untyped-call]
        phase.edit_gradients(problem.model)
        phase.optimizer.step()
        shares.append(share.detach())
    losses = problem.workers.sum(torch.stack(shares)).tolist() if shares else []
    for step, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise Diverged(
                f"loss became {loss} at step {step} of phase {index}", where=f"phase {index}"
            )
    return PhaseRecord(losses=losses, notes=dict(phase.notes))
