"""Which groups a place cannot open: its node lacks their images, or nobody can read them."""

from __future__ import annotations


class Refusals:
    """Remembers who could not open what, and who is there."""

    def __init__(self, groups: int) -> None:
        """Start with none.

        Args:
            groups: how many there are.
        """
        self._errors: list[dict[str, Exception]] = [{} for _ in range(groups)]  # by place
        self._heard: dict[str, float] = {}  # when each place gave its last sign

    def heard(self, place: str, now: float) -> None:
        """Say that a place claims or runs cells."""
        self._heard[place] = now

    def left(self, place: str) -> None:
        """Say that a place is away: it has ended, or tries what it can open."""
        self._heard.pop(place, None)

    def add(self, place: str, group: int, error: Exception) -> int | None:
        """Say why a place cannot open a group. Return another that it has not tried, or None."""
        self.left(place)
        self._errors[group].setdefault(place, error)
        return next((other for other, by in enumerate(self._errors) if place not in by), None)

    def forget(self, place: str) -> None:
        """Forget what a place could not open: its workers may be on another node now."""
        for errors in self._errors:
            errors.pop(place, None)

    def has(self, place: str, group: int) -> bool:
        """Return True if a place cannot open a group."""
        return place in self._errors[group]

    def useless(self, since: float) -> dict[int, Exception]:
        """Return the groups that no place can open, and the first error of each.

        Args:
            since: places that gave no sign since then are not there.
        """
        there = {place for place, heard in self._heard.items() if heard >= since}
        return {
            group: next(iter(errors.values()))
            for group, errors in enumerate(self._errors)
            if there and there <= errors.keys()
        }
