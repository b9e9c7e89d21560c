"""Where a run is: another thread may look at it while the run goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Position:
    """Where a run is. The engine writes it after each step."""

    phase: int = 0  # the first is 1; 0 before it has begun
    steps: int = 0  # of the phase, done so far
    share: Tensor | None = None  # of the loss of the last step: of this worker's images
    images: Counter[str] = field(default_factory=Counter)  # through each network, by its name

    def begin(self, images: Counter[str]) -> None:
        """Begin another run.

        Args:
            images: counts its images from now on, as `ForwardCounter.images`.
        """
        self.phase, self.steps, self.share, self.images = 0, 0, None, images

    def move(self, phase: int, steps: int, share: Tensor | None) -> None:
        """Say how far the run has come."""
        self.phase, self.steps, self.share = phase, steps, share
