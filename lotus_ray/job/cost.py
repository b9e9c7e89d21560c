"""Order groups by their expected work: the longest starts first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lotus_ray.base.roles import FORGET, RETAIN, ROLES
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder

BACKWARD = 2  # the cost of a backward, in forwards


def longest_first(
    work_orders: Sequence[WorkOrder], roles: Mapping[str, Roles], costs: Sequence[float]
) -> list[WorkOrder]:
    """Sort work orders by falling work, so that no long group starts last.

    Args:
        work_orders: groups with missing cells.
        roles: tables of roles, by name in the store.
        costs: of a forward of one image, for each work order, in any unit.

    Returns:
        The same work orders, by falling `expected_work`. Equal ones keep their order.

    Source: Graham 1969, longest processing time first. Deviation: none.
    """
    work = {
        id(work_order): expected_work(work_order, roles[work_order.group.roles_name], cost)
        for work_order, cost in zip(work_orders, costs, strict=True)
    }
    return sorted(work_orders, key=lambda work_order: -work[id(work_order)])


def expected_work(work_order: WorkOrder, roles: Roles, cost: float) -> float:
    """Return a rough cost of the missing cells of a group, good enough to order groups.

    It assumes that every epoch trains on all forget and retain images, and that every cell is
    evaluated once. Most methods do less, but equally so in all groups.

    Args:
        work_order: the group and its missing cells.
        roles: of its group.
        cost: of a forward of one image, in any unit.
    """
    trained, evaluated = len(roles.indices(FORGET, RETAIN)), len(roles.indices(*ROLES))
    return cost * sum(
        (1 + BACKWARD) * _epochs(cell) * trained + evaluated for cell in work_order.missing_cells
    )


def _epochs(cell: Cell) -> int:
    """Return how many epochs a cell trains; 1 if its method has no epochs."""
    method: Mapping[str, Any] = cell.spec["method"]
    return int(method.get("epochs", method.get("inner", {}).get("epochs", 1)))


def cell_seconds(work_orders, roles, costs):
    return {
        cell.cell_id: cost
        * ((1 + BACKWARD) * _epochs(cell) * len(roles[w.group.roles_name].indices(FORGET, RETAIN)))
        for w, cost in zip(work_orders, costs, strict=True)
        for cell in w.missing_cells
    }
