"""Which groups a place cannot open: its node lacks their images, or nobody can read them."""

from __future__ import annotations

from collections.abc import Collection

from lotus_ray.base.errors import ImagesDoNotFit


class Refusals:
    """Remembers who could not open what, who is there, and who has groups loaded."""

    def __init__(self, groups: int) -> None:
        """Start with none.

        Args:
            groups: how many there are.
        """
        self._errors: list[dict[str, Exception]] = [{} for _ in range(groups)]  # by place
        self._heard: dict[str, float] = {}  # when each place gave its last sign
        self._loads: dict[str, bool] = {}  # whether each place has said that it has groups loaded

    def heard(self, place: str, now: float) -> None:
        """Say that a place waits for a cell, runs one, or tries to open a group."""
        self._heard[place] = now

    def gone(self, place: str) -> None:
        """Say that a place has ended, or its workers are gone. What they had loaded is free."""
        self._heard.pop(place, None)
        self._loads.pop(place, None)
        self.freed()

    def lose_silent(self, since: float) -> None:
        """Say that the places are gone that have given no sign since a time."""
        for place in [place for place, heard in self._heard.items() if heard < since]:
            self.gone(place)

    def loads(self, place: str, loaded: Collection[int]) -> bool:
        """Say which groups a place has loaded. Return True if it has closed what it had."""
        has_closed = self._loads.get(place, False) and not loaded
        self._loads[place] = bool(loaded)
        if has_closed:
            self.freed()
        return has_closed

    def add(self, place: str, group: int, error: Exception) -> int | None:
        """Say why a place cannot open a group. Return another that it has not tried, or None.

        A place whose node has no room just now claims again. It is told no other group.
        """
        if isinstance(error, ImagesDoNotFit):
            self.loads(place, [])  # it has closed its groups to make room
            self._errors[group][place] = error
            return None
        self._errors[group].setdefault(place, error)
        other = next((other for other, by in enumerate(self._errors) if place not in by), None)
        if other is None:
            self.gone(place)
        else:
            self._loads[place] = True
        return other

    def forget(self, place: str) -> None:
        """Forget what a place could not open: its workers may be on another node now."""
        for errors in self._errors:
            errors.pop(place, None)

    def has(self, place: str, group: int) -> bool:
        """Return True if a place cannot open a group."""
        return place in self._errors[group]

    def others_lack_room(self, place: str, groups: Collection[int]) -> bool:
        """Return True if one of some groups did not fit where another place is."""
        return any(
            other != place and isinstance(error, ImagesDoNotFit)
            for group in groups
            for other, error in self._errors[group].items()
        )

    def useless(self, since: float, cells_run: bool) -> dict[int, Exception]:
        """Return the groups that no place can open, and the first error of each.

        What did not fit may still fit while a cell runs, or another place has a group loaded.

        Args:
            since: places that gave no sign since then are not there.
            cells_run: True while some place runs a cell.
        """
        there = {place for place, heard in self._heard.items() if heard >= since}
        may_fit = cells_run or any(self._loads.get(place) for place in there)
        return {
            group: next(iter(errors.values()))
            for group, errors in enumerate(self._errors)
            if there and there <= errors.keys()
            if not (may_fit and any(isinstance(e, ImagesDoNotFit) for e in errors.values()))
        }

    def freed(self) -> None:
        """Forget what did not fit: images that were in use may be removed now."""
        for errors in self._errors:
            for place in [p for p, error in errors.items() if isinstance(error, ImagesDoNotFit)]:
                del errors[place]
