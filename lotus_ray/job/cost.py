"""What cells cost: learned from rows, else from a table of passes. And the longest first."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cell_work import cell_units, epochs_of, sizes_of
from lotus_ray.job.rates import Device, flop_rate
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.row import Row

TIMED = ("prepare_seconds", "unlearn_seconds", "evaluate_seconds", "relearn_seconds")  # of a row

LEARNED = "learned"  # from rows of this method on this device
SCALED = "scaled"  # from the table, at the speed of rows of other methods on this device
TABLED = "tabled"  # from the table
SOURCES = (LEARNED, SCALED, TABLED)


@dataclass(frozen=True)
class CellCost:
    """The expected seconds of one worker that runs a cell alone, and where they come from."""

    seconds: float
    source: str  # LEARNED, SCALED or TABLED


def cell_costs(
    work_orders: Sequence[WorkOrder],
    roles: Mapping[str, Roles],
    flops: Sequence[float],
    rows: Mapping[str, Row],
    device: Device,
) -> dict[str, CellCost]:
    """Return what every missing cell is expected to cost, by cell id.

    The first of these that there is:
    1. The median of rows of the same method, data, setting, model, precision and device.
    2. The passes of the method, at the median speed of such rows of other methods: of the same
       model, else of any.
    3. The passes of the method, at the rate of the device in a table.

    Args:
        work_orders: groups with missing cells.
        roles: tables of roles, by name in the store.
        flops: FLOP of the forward of one image, for each work order. If all costs are only
            relative, so are the seconds of 3.
        rows: of the store, by cell id.
        device: that will run the cells.
    """
    known = learned_seconds(rows.values(), device)
    estimates = [
        estimate
        for order, forward in zip(work_orders, flops, strict=True)
        for estimate in _estimates(order, sizes_of(roles[order.group.roles_name]), forward)
    ]
    speeds = _Speeds(estimates, known)
    return {
        each.cell_id: CellCost(known[each.kind], LEARNED)
        if each.kind in known
        else speeds.cost(each, device)
        for each in estimates
        if each.is_missing
    }


class Kind(NamedTuple):
    """Cells of one kind take the same time: they differ in their seed alone."""

    benchmark: str
    model: str
    setting: str
    precision: str
    method: str
    epochs: int
    relearns: bool  # see `Relearn`


def learned_seconds(rows: Iterable[Row], device: Device) -> dict[Kind, float]:
    """Return the median seconds of rows on a device, by kind. Rows that failed do not count.

    Seconds of several workers are added up.
    """
    seconds: dict[Kind, list[float]] = defaultdict(list)
    for row in rows:
        where = row.resources
        is_here = device.name in (None, where.device) and device.type == where.device_type
        spent = sum(row.timing.get(name, 0.0) for name in TIMED) * (where.workers or 1)
        if row.is_ok and is_here and spent > 0:
            names = row.benchmark, row.model, row.setting, row.spec.get("precision", "")
            seconds[Kind(*names, row.method, *_size_of(row.spec))].append(spent)
    return {kind: statistics.median(each) for kind, each in seconds.items()}


class _Estimate(NamedTuple):
    """The work of a cell."""

    cell_id: str
    is_missing: bool
    kind: Kind
    flop: float


def _estimates(order: WorkOrder, sizes: Mapping[str, int], forward: float) -> Iterator[_Estimate]:
    group = order.group
    names = group.benchmark, group.model_label, group.setting, group.precision
    for cell in group.cells:
        kind = Kind(*names, cell.label, *_size_of(cell.spec))
        cell_id = cell.cell_id
        flop = forward * cell_units(cell, group, sizes)
        yield _Estimate(cell_id, cell_id in order.row_versions, kind, flop)


def _size_of(spec: Mapping[str, Any]) -> tuple[int, bool]:
    """Return what of a cell's spec decides its seconds, beside its names: see `Kind`."""
    return epochs_of(spec), spec.get("relearn") is not None


class _Speeds:
    """FLOP a second of cells whose seconds are known."""

    def __init__(self, estimates: Iterable[_Estimate], known: Mapping[Kind, float]) -> None:
        by_network: dict[tuple[str, str], list[float]] = defaultdict(list)
        for each in estimates:
            if each.kind in known:
                speed = each.flop / known[each.kind]
                by_network[each.kind.model, each.kind.precision].append(speed)
        self._medians = {name: statistics.median(each) for name, each in by_network.items()}

    def cost(self, estimate: _Estimate, device: Device) -> CellCost:
        """Return the cost of a cell whose kind has no row."""
        kind = estimate.kind
        if not self._medians:
            return CellCost(estimate.flop / flop_rate(device, kind.precision), TABLED)
        of_any = statistics.median(self._medians.values())
        speed = self._medians.get((kind.model, kind.precision), of_any)
        return CellCost(estimate.flop / speed, SCALED)
