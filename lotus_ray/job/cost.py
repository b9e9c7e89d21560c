"""In which order groups begin, and how well the cells of a grid filled the places they ran in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lotus_ray.base.roles import FORGET, RETAIN, ROLES
from lotus_ray.data.roles.assign import Roles
from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder

BACKWARD = 2  # a backward, in forwards


def longest_first(
    work_orders: Sequence[WorkOrder], roles: Mapping[str, Roles], flops: Sequence[float]
) -> list[WorkOrder]:
    """Return groups in the order in which to begin them: a long one that begins last ends last.

    Args:
        work orders: groups with missing cells.
        roles: tables of roles, by name in the store.
        flops: of each group, what one image costs its network in a forward.

    Returns:
        The same, by falling `expected_work`; those of equal work in the order given.

    Source: Graham 1969, longest processing time first. Deviation: none.
    """
    work = {
        id(work_order): expected_work(work_order, roles[work_order.group.roles_name], cost)
        for work_order, cost in zip(work_orders, flops, strict=True)
    }
    return sorted(work_orders, key=lambda work_order: -work[id(work_order)])


def expected_work(work_order: WorkOrder, roles: Roles, flops: float) -> float:
    """Return about what the missing cells of a group cost, in FLOP.

    Every epoch trains on all images to forget and to retain, and every cell is evaluated once:
    more than most methods do, but alike in all groups. Nothing but their order depends on it.
    """
    trained, evaluated = len(roles.rows(FORGET, RETAIN)), len(roles.rows(*ROLES))
    return flops * sum(
        (1 + BACKWARD) * _epochs(cell) * trained + evaluated for cell in work_order.missing_cells
    )


def _epochs(cell: Cell) -> int:
    """Return how many epochs a cell trains; a method without any passes over its data once."""
    method: Mapping[str, Any] = cell.spec["method"]
    return int(method.get("epochs", method.get("inner", {}).get("epochs", 1)))


def efficiency(cell_seconds: float, places: int, makespan_seconds: float) -> float:
    """Return Σ seconds of cells ÷ (places × makespan): 1 where no place ever waited.

    Args:
        cell_seconds: of all cells that ran, summed.
        places: groups that could run at once.
        makespan_seconds: wall time from the first start to the last end.
    """
    return cell_seconds / (places * makespan_seconds)
