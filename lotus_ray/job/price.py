"""What a grid will cost, before it runs: hours, time on a number of places, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lotus_ray.job.cost import SOURCES, CellCost, cell_costs
from lotus_ray.job.makespan import ideal_makespan, ways_to_end
from lotus_ray.job.networks import flops_of, networks
from lotus_ray.job.preview import Preview
from lotus_ray.job.rates import Device, likely_device
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.traffic import Traffic, traffic
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.row import Row

PLACES = (1, 8, 64)


@dataclass(frozen=True)
class Price:
    """What the missing cells of a job are expected to cost.

    Several workers of a cell count as if they took their part of its time each.
    """

    costs: Mapping[str, CellCost]  # by cell id
    needs: Mapping[str, Sequence[str]]  # the original that a cell starts from, by cell id
    committed: int  # cells that have a row and will not run
    resources: Resources
    device: Device
    traffic: Traffic

    @property
    def unit(self) -> str:
        """What the hours are of: CPU or GPU."""
        return "GPU" if self.resources.gpus_per_worker else "CPU"

    @property
    def hours(self) -> float:
        """Hours of all GPUs, or of all CPUs if no worker has a GPU."""
        each = self.resources.gpus_per_worker or self.resources.cpus_per_worker
        return each * sum(cost.seconds for cost in self.costs.values()) / 3600

    @property
    def cells_by_source(self) -> Counter[str]:
        """Number of cells by the source of their cost."""
        return Counter(cost.source for cost in self.costs.values())

    @property
    def longest_chain(self) -> float:
        """Seconds of the longest original and a method that starts from it."""
        return max(ways_to_end(self._place_seconds, self.needs).values(), default=0.0)

    def seconds_on(self, places: int) -> float:
        """Return the seconds from the first cell's start to the last one's end.

        Args:
            places: each runs one cell at a time.
        """
        return ideal_makespan(self._place_seconds, self.needs, places)

    @property
    def _place_seconds(self) -> dict[str, float]:
        workers = self.resources.workers
        return {cell_id: cost.seconds / workers for cell_id, cost in self.costs.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the figures, not rounded."""
        sources = self.cells_by_source
        return {
            "cells": len(self.costs),
            "committed": self.committed,
            f"{self.unit.lower()}_hours": self.hours,
            "device": self.device.name,
            "cells_by_source": {source: sources[source] for source in SOURCES},
            "makespan_seconds": {str(places): self.seconds_on(places) for places in PLACES},
            "longest_chain_seconds": self.longest_chain,
            "bytes": asdict(self.traffic),
        }


def price(
    previewed: Preview,
    work_orders: Sequence[WorkOrder],
    rows: Mapping[str, Row],
    resources: Resources,
) -> Price:
    """Return what the missing cells of a job will cost.

    Args:
        previewed: the job. Cells whose data are not here have no price.
        work_orders: groups with missing cells.
        rows: of the store, by cell id.
        resources: of the job.

    Raises:
        LotusRayError: a network or the data cannot be used.
    """
    device = likely_device("cuda" if resources.gpus_per_worker else "cpu", rows.values())
    roles = previewed.planned.roles
    flops = flops_of(networks(order.group for order in work_orders))
    costs = cell_costs(work_orders, roles, flops, rows, device)
    missing = [cell for order in work_orders for cell in order.missing_cells]
    return Price(
        costs=costs,
        needs={c.cell_id: [c.spec["weights"]] for c in missing if "weights" in c.spec},
        committed=len(previewed.planned.cells) - len(costs),
        resources=resources,
        device=device,
        traffic=traffic(work_orders, roles, previewed.manifests),
    )
