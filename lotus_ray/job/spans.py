"""When cells ran, and how well they filled the places that ran them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """One attempt at a cell that ended with its commit. Times are seconds since 1970."""

    cell_id: str
    place: str
    begin: float
    end: float
    waited: float = 0.0  # seconds that a gold standard waited for its original

    @property
    def seconds(self) -> float:
        """How long the attempt worked."""
        return self.end - self.begin - self.waited


@dataclass(frozen=True)
class Filling:
    """The cells that a command ran, and the number of places that it had for them."""

    places: int
    spans: Sequence[Span]

    @property
    def begin(self) -> float | None:
        """When the first cell began, in seconds since 1970; None if none ran."""
        return min((span.begin for span in self.spans), default=None)

    @property
    def efficiency(self) -> float | None:
        """Σ seconds of cells ÷ (places × seconds from the first begin to the last end), or None."""
        if not self.spans or not self.places:
            return None
        whole = max(span.end for span in self.spans) - min(span.begin for span in self.spans)
        return sum(span.seconds for span in self.spans) / (self.places * whole) if whole else None
