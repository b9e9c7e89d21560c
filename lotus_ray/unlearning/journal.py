"""Numbers that a method asked for, kept so that its run can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Journal:
    """The numbers that a method asked for between phases, such as accuracies, in order.

    While `replaying` is True, the run is on its way back to a checkpoint and trains nothing.
    """

    answers: list[float] = field(default_factory=list)
    replaying: bool = False
    _asked: int = 0  # answers given so far

    def answer(self, compute: Callable[[], float]) -> float:
        """Return the next recorded number; compute and record it if there is none."""
        if self._asked == len(self.answers):
            self.answers.append(compute())
        self._asked += 1
        return self.answers[self._asked - 1]
