"""How long cells take on a number of places: an ideal list schedule, without any overhead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter
from heapq import heapify, heappop, heappush


def ideal_makespan(
    costs: Mapping[str, float], needs: Mapping[str, Collection[str]], places: int
) -> float:
    """Return when the last cell ends, if no place is idle while a cell is ready.

    Of the ready cells, that with the longest way to the end starts first: see `ways_to_end`. Equal
    ones start in the order of `costs`.

    Args:
        costs: seconds of each cell, by cell id.
        needs: the cells that must end before a cell starts, by its id. Those that are not in
            `costs` have ended. A cell that is not in `needs` is ready.
        places: each runs one cell at a time.

    Raises:
        graphlib.CycleError: cells need each other.

    Source: Graham 1969, list schedules; Hu 1961, the longest way first. Deviation: none.
    """
    ways = ways_to_end(costs, needs)
    left = {cell: sum(need in costs for need in needs.get(cell, ())) for cell in costs}
    dependants = _dependants(costs, needs)
    order = {cell: (-ways[cell], number) for number, cell in enumerate(costs)}
    ready = [(order[cell], cell) for cell in costs if not left[cell]]
    heapify(ready)
    running: list[tuple[float, int, str]] = []  # when it ends, its number, the cell
    now = 0.0
    while ready or running:
        while ready and len(running) < places:
            (_, number), cell = heappop(ready)
            heappush(running, (now + costs[cell], number, cell))
        now = running[0][0]
        while running and running[0][0] == now:
            for dependant in dependants[heappop(running)[2]]:
                left[dependant] -= 1
                if not left[dependant]:
                    heappush(ready, (order[dependant], dependant))
    return now


def ways_to_end(
    costs: Mapping[str, float], needs: Mapping[str, Collection[str]]
) -> dict[str, float]:
    """Return the seconds from the start of each cell to the end of all that need it, by cell id.

    That is its own cost and the longest way of a cell that needs it. The largest is the longest
    chain: no number of places takes less.

    Args:
        costs: seconds of each cell, by cell id.
        needs: as for `ideal_makespan`.

    Raises:
        graphlib.CycleError: cells need each other.
    """
    dependants = _dependants(costs, needs)
    ways: dict[str, float] = {}
    for cell in TopologicalSorter(dependants).static_order():
        ways[cell] = costs[cell] + max((ways[each] for each in dependants[cell]), default=0.0)
    return ways


def _dependants(
    costs: Mapping[str, float], needs: Mapping[str, Collection[str]]
) -> Mapping[str, list[str]]:
    """Return the cells that need each cell, by its id."""
    dependants: dict[str, list[str]] = {cell: [] for cell in costs}
    for cell in costs:
        for need in needs.get(cell, ()):
            if need in costs:
                dependants[need].append(cell)
    return dependants
