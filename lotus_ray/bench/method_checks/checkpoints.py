"""A run that keeps every checkpoint, and one that goes on from one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lotus_ray.unlearning.checkpoint import Checkpoint


@dataclass
class Kept:
    """Keeps every checkpoint of a run, as a file would."""

    contents: list[bytes] = field(default_factory=list)

    def load(self) -> None:
        """Start at the beginning."""

    def restored(self) -> None:
        raise AssertionError  # nothing was loaded

    def step_ended(self) -> None:
        """Write nothing."""

    def wants_to_look(self) -> bool:
        return False

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        self.contents.append(checkpoint().to_bytes())


@dataclass
class Resumed:
    """Goes on from a checkpoint, and keeps none."""

    content: bytes
    offered: int = 0  # checkpoints since then

    def load(self) -> Checkpoint:
        return Checkpoint.from_bytes(self.content)

    def restored(self) -> None:
        """Go on."""

    def step_ended(self) -> None:
        """Write nothing."""

    def wants_to_look(self) -> bool:
        return False

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Count it."""
        self.offered += 1


@dataclass
class KeptWithin(Kept):
    """Keeps those within phases, one after every step where that can be."""

    def wants_to_look(self) -> bool:
        return True

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        if (made := checkpoint()).losses:
            self.contents.append(made.to_bytes())
