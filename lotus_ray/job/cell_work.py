"""What a cell has to do: the passes of its method, and an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from lotus_ray.base.roles import FORGET, OTHER_TRAIN, RETAIN, ROLES, STORED
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.job.floors import needed
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.passes import Samples, units


def sizes_of(roles: Roles) -> dict[str, int]:
    """Return the number of samples of each role, and of classes under `classes`."""
    counts = np.bincount(roles.roles, minlength=len(STORED)).tolist()
    return {**dict(zip(STORED, counts, strict=True)), "classes": roles.num_classes}


def cell_units(cell: Cell, group: CellGroup, sizes: Mapping[str, int]) -> int:
    """Return the forwards of one image that a cell costs: its method's passes, and an evaluation.

    Args:
        cell: the cell.
        group: of the cell.
        sizes: from `sizes_of`.
    """
    batch_size = int(cell.spec.get("batch_size", group.batch_size))
    samples = Samples(
        classes=sizes["classes"],
        forget=sizes[FORGET],
        retain=sizes[RETAIN],
        batch_size=batch_size,
        evaluation_rows=batch_size,  # no cost depends on it
        other_train=sizes[OTHER_TRAIN],
    )
    method = json.dumps(cell.spec["method"], sort_keys=True)
    return _method_units(method, samples) + sum(sizes[role] for role in ROLES)


@cache
def _method_units(method: str, samples: Samples) -> int:
    """Return the cost of the passes of a method; `method` is its description as JSON."""
    return units(needed(build_method(json.loads(method)), samples))


def epochs_of(spec: Mapping[str, Any]) -> int:
    """Return how many epochs a cell trains; 1 if its method has no epochs."""
    method: Mapping[str, Any] = spec.get("method", {})
    return int(method.get("epochs", method.get("inner", {}).get("epochs", 1)))
