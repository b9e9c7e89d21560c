"""The end of a phase as a checkpoint: all that a run needs to go on from there.

A method is a generator, whose place cannot be stored. So a restarted run replays it: the generator
runs from its start with nothing trained, numbers that it asked for come from the journal, and at
the checkpoint the weights and the states of the optimizers are put in place.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from lotus_ray.unlearning.journal import Journal
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class PhaseRecord:
    """What one phase did. `losses` holds the global mean loss of each step, in order."""

    losses: list[float]
    notes: dict[str, float]


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a phase. `records` are those of all phases so far."""

    records: list[PhaseRecord]
    model: dict[str, Tensor]
    optimizers: list[dict[str, Any]]  # in the order in which phases brought them
    answers: list[float]
    kept: dict[str, Tensor] | None
    seconds: dict[str, float] = field(default_factory=dict)  # spent so far, by name

    @classmethod
    def of(
        cls, problem: Problem, optimizers: Sequence[Optimizer], records: Sequence[PhaseRecord]
    ) -> Checkpoint:
        """Return the checkpoint where a run stands; tensors are shared with it."""
        return cls(
            records=list(records),
            model=problem.model.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in optimizers],
            answers=list(problem.journal.answers),
            kept=problem.kept,
        )

    def begin(self, problem: Problem) -> None:
        """Let a problem that has not run yet answer from this checkpoint's journal."""
        problem.journal = Journal(list(self.answers), replaying=True)

    def restore(self, problem: Problem, optimizers: Sequence[Optimizer]) -> None:
        """Put a replayed run where this checkpoint is."""
        problem.model.load_state_dict(self.model)
        for optimizer, state in zip(optimizers, self.optimizers, strict=True):
            optimizer.load_state_dict(state)
        problem.kept = self.kept
        problem.journal.replaying = False

    def to_bytes(self) -> bytes:
        """Return the checkpoint as a file."""
        content = {**vars(self), "records": [asdict(record) for record in self.records]}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read what `to_bytes` wrote; nothing but tensors and plain values is accepted."""
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        records = [PhaseRecord(**record) for record in found.pop("records")]
        return cls(records=records, **found)


class CheckpointStore(Protocol):
    """Keeps the latest checkpoint of one run."""

    def load(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, the same on every worker, or None."""

    def restored(self) -> None:
        """Hear that the replay is over: from here on the run is new."""

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep a checkpoint, where it is worth its time."""


class NoCheckpoints:
    """A run that always starts from the beginning."""

    def load(self) -> None:
        """Return None."""

    def restored(self) -> None:
        """Never called."""

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep nothing."""


NO_CHECKPOINTS = NoCheckpoints()
