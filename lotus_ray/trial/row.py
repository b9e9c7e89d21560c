"""Make the row of a cell from its group, its spec and its measurements."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.memory import is_out_of_memory
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.store.row import Failure, Row
from lotus_ray.unlearning.checkpoint import PhaseRecord


def new_row(group: CellGroup, cell: Cell, **measured: Any) -> Row:
    """Return the row of a cell.

    Args:
        group: of the cell.
        cell: the cell.
        measured: further fields of Row.
    """
    return Row(
        **group.labels,
        method=cell.label,
        seed=group.seed,
        spec=cell.spec,
        data_notes=list(group.notes),
        committed_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **measured,
    )


def failure(error: BaseException, status: str | None = None) -> dict[str, Any]:
    """Return the fields of a row that say how a cell failed.

    Args:
        error: that ended the cell. Our own errors get no traceback, because their text is enough.
        status: default: oom if memory ran out, else failed.
    """
    is_ours = isinstance(error, LotusRayError)
    trace = "" if is_ours else "".join(traceback.format_exception(error))
    return {
        "status": status or ("oom" if is_out_of_memory(error) else "failed"),
        "error": Failure(type=type(error).__name__, message=str(error), traceback=trace),
    }


def resources_of(
    facts: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """Return the resources of a row.

    Args:
        facts: of the last attempt. Its number of workers is the row's `workers`.
        attempts: the resources of each attempt. If the number of workers changed, all numbers are
            kept. Of several fractions of a GPU, the smallest is kept.
        more: further fields.
    """
    resources = dict(facts.get("resources", {}))
    workers = [each["workers"] for each in attempts]
    if len(set(workers)) > 1:
        resources["workers_by_attempt"] = workers
    if parts := [each["gpus_per_worker"] for each in attempts if "gpus_per_worker" in each]:
        resources["gpus_per_worker"] = min(parts)
    return {**resources, **more}


def phase(record: PhaseRecord) -> dict[str, Any]:
    """Return the entry of a row for one phase: steps, mean loss and notes."""
    losses = record.losses
    return {
        "steps": len(losses),
        "loss": sum(losses) / len(losses) if losses else None,
        **record.notes,
    }
