"""Numbers that a method asked for, kept so that its run can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Journal:
    """Numbers that a method asked for between phases, in order, so that its run can be replayed.

    While `replaying`, the run is on its way back to a checkpoint: nothing is trained or kept.
    """

    answers: list[float] = field(default_factory=list)
    replaying: bool = False
    _asked: int = 0

    def answer(self, compute: Callable[[], float]) -> float:
        """Return the next number: the one on record, or a new one."""
        if self._asked == len(self.answers):
            self.answers.append(compute())
        self._asked += 1
        return self.answers[self._asked - 1]
