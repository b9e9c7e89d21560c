"""A checkpoint: all that a run needs to go on from the end of a phase, or from within it.

A method is a generator, and the position of a generator cannot be stored. So a restarted run
replays it: the generator runs from its start, nothing is trained, the numbers that it asks for come
from the journal, and at the checkpoint the weights and the optimizers are restored.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from lotus_ray.unlearning.contract import Phase, Workers
from lotus_ray.unlearning.journal import Journal
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.progress import Progress, random_state, skip


@dataclass(frozen=True)
class PhaseRecord:
    """What one phase did."""

    losses: list[float]  # the global mean loss of each step, in order
    notes: dict[str, float]  # of the phase


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a phase, or within one. Stores hold these field names."""

    records: list[PhaseRecord]  # of all phases that have ended
    model: dict[str, Tensor]  # weights and buffers
    optimizers: list[dict[str, Any]]  # in the order in which phases first use them
    answers: list[float]  # of the journal
    kept: dict[str, Tensor] | None  # see `Problem.keep_weights`
    seconds: dict[str, float] = field(default_factory=dict)  # spent so far, by name
    losses: list[float] = field(default_factory=list)  # of the phase that has not ended, by step
    random: dict[str, Tensor] = field(default_factory=dict)  # see `random_state`

    @classmethod
    def of(
        cls,
        problem: Problem,
        optimizers: Sequence[Optimizer],
        records: Sequence[PhaseRecord],
        progress: Progress | None = None,
    ) -> Checkpoint:
        """Return the checkpoint of a run as it is now. It shares its tensors with the run.

        Args:
            problem: with the model and the journal.
            optimizers: in the order in which phases first use them.
            records: of all phases that have ended.
            progress: of the phase that has not; default none.
        """
        return cls(
            losses=progress.losses() if progress else [],
            random=random_state(problem) if progress else {},
            records=list(records),
            model=problem.model.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in optimizers],
            answers=list(problem.journal.answers),
            kept=problem.kept,
        )

    def is_reached(self, index: int) -> bool:
        """True if the replay ends with a phase: at its end, or within it."""
        return index == len(self.records) - (not self.losses)

    def progress(self, phase: Phase[Any], workers: Workers) -> Progress:
        """Return how far the phase had come that had not ended."""
        batches = skip(phase.batches, len(self.losses))
        return Progress(workers, batches, self.losses, self.random)

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

    def on_cpu(self) -> Checkpoint:
        """Return a copy in the memory of the CPU, which does not change as the run goes on."""
        copied: Checkpoint = _on_cpu(self)
        return copied

    def to_bytes(self) -> bytes:
        """Return the content of a file that holds this checkpoint."""
        content = {**vars(self), "records": [asdict(record) for record in self.records]}
        if not self.losses:  # as an earlier version wrote and reads it
            del content["losses"], content["random"]
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read what `to_bytes` wrote. Only tensors and plain values are accepted."""
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        records = [PhaseRecord(**record) for record in state.pop("records")]
        return cls(records=records, **state)


def _on_cpu(value: Any) -> Any:
    """Copy plain values, and the tensors in them to the memory of the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy(value)  # of its own type, with the versions of modules that a state dict has
        copied.update((key, _on_cpu(each)) for key, each in value.items())
        return copied
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(each) for each in value)
    if isinstance(value, Checkpoint):
        return Checkpoint(**{name: _on_cpu(each) for name, each in vars(value).items()})
    return value


class CheckpointStore(Protocol):
    """Keeps the latest checkpoint of one run."""

    def load(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, the same on every worker, or None."""

    def restored(self) -> None:
        """Called when the replay has ended and training goes on."""

    def step_ended(self) -> None:
        """Called after each step, so it must be cheap: what was kept before may be written now."""

    def wants_to_look(self) -> bool:
        """Called after some steps; True if one may be due: see `Progress`."""

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Make and keep a checkpoint if it is time for one.

        Every worker calls this at the end of each phase, and where the first `wants_to_look`.
        """


class NoCheckpoints:
    """A run without checkpoints starts from its beginning."""

    def load(self) -> None:
        """Return None."""

    def restored(self) -> None:
        """Never called."""

    def step_ended(self) -> None:
        """Write nothing."""

    def wants_to_look(self) -> bool:
        """Return False."""
        return False

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep nothing."""


NO_CHECKPOINTS = NoCheckpoints()
