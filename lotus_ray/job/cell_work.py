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
from lotus_ray.job.passes import TRAIN, UNITS, Samples, units
from lotus_ray.metrics import relearn


def sizes_of(roles: Roles) -> dict[str, int]:
    """Return the number of samples of each role, and of classes under `classes`."""
    counts = np.bincount(roles.roles, minlength=len(STORED)).tolist()
    return {**dict(zip(STORED, counts, strict=True)), "classes": roles.num_classes}


def cell_units(cell: Cell, group: CellGroup, sizes: Mapping[str, int]) -> int:
    """Return the forwards of one image that a cell costs: its method, evaluation, relearn curve.

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
    more = _relearn_units(cell.spec.get("relearn"))
    return _method_units(method, samples) + sum(sizes[role] for role in ROLES) + more


@cache
def _method_units(method: str, samples: Samples) -> int:
    """Return the cost of the passes of a method; `method` is its description as JSON."""
    return units(needed(build_method(json.loads(method)), samples))


def _relearn_units(settings: Mapping[str, Any] | None) -> int:
    """Return the cost of a relearn curve, where images of all sets are enough for it."""
    if settings is None:
        return 0
    points = relearn.points(settings["steps"], settings["every"])
    trained = int(settings["steps"]) * int(settings["batch_size"])
    return UNITS[TRAIN] * trained + 2 * int(settings["evaluated"]) * (len(points) - 1)


def epochs_of(spec: Mapping[str, Any]) -> int:
    """Return how many epochs a cell trains; 1 if its method has no epochs."""
    method: Mapping[str, Any] = spec.get("method", {})
    return int(method.get("epochs", method.get("inner", {}).get("epochs", 1)))
