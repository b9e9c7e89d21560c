"""Which groups a place cannot open: its node lacks their images, or nobody can read them."""

from __future__ import annotations

from collections.abc import Collection

from lotus_ray.base.errors import ImagesDoNotFit


class Refusals:
    """Remembers who could not open what, and who is there."""

    def __init__(self, groups: int) -> None:
        """Start with none.

        Args:
            groups: how many there are.
        """
        self._errors: list[dict[str, Exception]] = [{} for _ in range(groups)]  # by place
        self._heard: dict[str, float] = {}  # when each place gave its last sign
        self._loads: dict[str, bool] = {}  # whether each place has groups loaded, or loads one

    def heard(self, place: str, now: float) -> None:
        """Say that a place claims or runs cells."""
        self._heard[place] = now

    def left(self, place: str) -> None:
        """Say that a place is away: it has ended, or tries what it can open."""
        self._heard.pop(place, None)
        self._loads.pop(place, None)

    def add(self, place: str, group: int, error: Exception) -> int | None:
        """Say why a place cannot open a group. Return another that it has not tried, or None.

        A place whose node has no room just now claims again. It is told no other group.
        """
        if isinstance(error, ImagesDoNotFit):
            self.loads(place, [])  # it has closed its groups to make room
            self._errors[group][place] = error
            return None
        self._errors[group].setdefault(place, error)
        self.left(place)
        other = next((other for other, by in enumerate(self._errors) if place not in by), None)
        self._loads[place] = other is not None
        return other

    def forget(self, place: str) -> None:
        """Forget what a place could not open: its workers may be on another node now."""
        for errors in self._errors:
            errors.pop(place, None)

    def has(self, place: str, group: int) -> bool:
        """Return True if a place cannot open a group."""
        return place in self._errors[group]

    def loads(self, place: str, loaded: Collection[int]) -> None:
        """Say which groups a place has loaded. One that has closed its groups has freed space."""
        if self._loads.get(place) and not loaded:
            self.freed()
        self._loads[place] = bool(loaded)

    def lack_room(self) -> bool:
        """Return True if a group did not fit on a node, beside images that are in use there."""
        return any(isinstance(e, ImagesDoNotFit) for by in self._errors for e in by.values())

    def freed(self) -> None:
        """Forget what did not fit on a node: images that were in use may be removed now."""
        for errors in self._errors:
            for place in [p for p, error in errors.items() if isinstance(error, ImagesDoNotFit)]:
                del errors[place]

    def useless(self, since: float, cells_run: bool) -> dict[int, Exception]:
        """Return the groups that no place can open, and the first error of each.

        What did not fit may still fit while a cell runs, or another place has a group loaded.

        Args:
            since: places that gave no sign since then are not there.
            cells_run: True while some place runs a cell.
        """
        there = {place for place, heard in self._heard.items() if heard >= since}
        may_fit = cells_run or any(self._loads.values())
        return {
            group: next(iter(errors.values()))
            for group, errors in enumerate(self._errors)
            if there and there <= errors.keys()
            if not (may_fit and any(isinstance(e, ImagesDoNotFit) for e in errors.values()))
        }
