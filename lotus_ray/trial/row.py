"""What a row says of its cell, beside what was measured."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.memory import is_out_of_memory
from lotus_ray.unlearning.checkpoint import PhaseRecord

if TYPE_CHECKING:  # cells need pydantic, which is not everywhere where something is measured
    from lotus_ray.job.cells import Cell, CellGroup


def failure(status: str, error: BaseException) -> dict[str, Any]:
    """Return the body of a row that says how a cell failed."""
    known = isinstance(error, LotusRayError)
    return {
        "status": status,
        "metrics": {},
        "undefined": {},
        "intervals": {},
        "timing": {},
        "phases": [],
        "error": {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": "" if known else "".join(traceback.format_exception(error)),
        },
    }


def about(group: CellGroup, cell: Cell) -> dict[str, Any]:
    """Return what a row says of its cell before anything has run."""
    return {
        **group.labels,
        "method": cell.label,
        "seed": group.seed,
        "spec": cell.spec,
        "data_notes": list(group.notes),
        "committed_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def with_attempts(facts: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts of a row, whose `workers` are those at its commit.

    Args:
        facts: where the last attempt ran.
        used: what each attempt had. The numbers of workers are recorded where they were not always
            as many, and the smallest part of a GPU: time that was spent on it is the cell's.
    """
    resources = dict(facts.get("resources", {}))
    workers = [each["workers"] for each in used]
    if len(set(workers)) > 1:
        resources["workers_by_attempt"] = workers
    if parts := [each["gpus_per_worker"] for each in used if "gpus_per_worker" in each]:
        resources["gpus_per_worker"] = min(parts)
    return {**facts, "resources": resources}


def status_of(error: Exception) -> str:
    """Return the status of a cell that an error ended."""
    return "oom" if is_out_of_memory(error) else "failed"


def phase(record: PhaseRecord) -> dict[str, Any]:
    """Return what a row says of one phase."""
    losses = record.losses
    return {
        "steps": len(losses),
        "loss": sum(losses) / len(losses) if losses else None,
        **record.notes,
    }
