"""A checkpoint: all that a run needs to go on from the end of a phase.

A method is a generator, and the position of a generator cannot be stored. So a restarted run
replays it: the generator runs from its start, nothing is trained, the numbers that it asks for come
from the journal, and at the checkpoint the weights and the optimizers are restored.
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
    """What one phase did."""

    losses: list[float]  # the global mean loss of each step, in order
    notes: dict[str, float]  # of the phase


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a phase. Stores hold these field names."""

    records: list[PhaseRecord]  # of all phases so far
    model: dict[str, Tensor]  # weights and buffers
    optimizers: list[dict[str, Any]]  # in the order in which phases first use them
    answers: list[float]  # of the journal
    kept: dict[str, Tensor] | None  # see `Problem.keep_weights`
    seconds: dict[str, float] = field(default_factory=dict)  # spent so far, by name

    @classmethod
    def of(
        cls, problem: Problem, optimizers: Sequence[Optimizer], records: Sequence[PhaseRecord]
    ) -> Checkpoint:
        """Return the checkpoint of a run as it is now. It shares its tensors with the run."""
        return cls(
            records=list(records),
            model=problem.model.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in optimizers],
            answers=list(problem.journal.answers),
            kept=problem.kept,
        )

    def start_replay(self, problem: Problem) -> None:
        """Let a fresh problem answer from this checkpoint's journal, without training."""
        problem.journal = Journal(list(self.answers), replaying=True)

    def restore(self, problem: Problem, optimizers: Sequence[Optimizer]) -> None:
        """End the replay: load the weights and the optimizers of this checkpoint."""
        problem.model.load_state_dict(self.model)
        for optimizer, state in zip(optimizers, self.optimizers, strict=True):
            optimizer.load_state_dict(state)
        problem.kept = self.kept
        problem.journal.replaying = False

    def to_bytes(self) -> bytes:
        """Return the content of a file that holds this checkpoint."""
        content = {**vars(self), "records": [asdict(record) for record in self.records]}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read what `to_bytes` wrote. Only tensors and plain values are accepted."""
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        records = [PhaseRecord(**record) for record in state.pop("records")]
        return cls(records=records, **state)


class CheckpointStore(Protocol):
    """Keeps the latest checkpoint of one run."""

    def load(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, the same on every worker, or None."""

    def restored(self) -> None:
        """Called when the replay has ended and training goes on."""

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Called at the end of each phase; makes and keeps a checkpoint if it is time for one."""


class NoCheckpoints:
    """A run without checkpoints starts from its beginning."""

    def load(self) -> None:
        """Return None."""

    def restored(self) -> None:
        """Never called."""

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep nothing."""


NO_CHECKPOINTS = NoCheckpoints()
