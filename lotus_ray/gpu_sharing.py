"""Several lanes on one GPU: how many its memory holds, as the first cells of their kind show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lotus_ray.base.memory import CONTEXT_BYTES, USABLE
from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import Todo
from lotus_ray.store.results import OK, Row

# What later cells may need beyond the first one measured, whose activations they share: SalUn's
# gradients and mask, SSD's importances. Chosen, not measured; a lane that needs yet more goes on
# with a whole GPU.
HEADROOM = 1.25


def lanes_a_gpu(rows: Iterable[Row]) -> int | None:
    """Return how many lanes the memory of one GPU holds, with headroom for what no row tells.

    Args:
        rows: of cells, with the peaks that `memory.device_memory` measured. Those that failed, or
            shared their work, tell nothing.

    Returns:
        At least 1, by the largest peak and the smallest GPU; None where no row tells.
    """
    known = [row["resources"] for row in rows if _tells(row)]
    if not known:
        return None
    peak = max(resources["peak_device_bytes"] for resources in known)
    there = min(resources["device_bytes"] for resources in known)
    return max(int(USABLE * there / (HEADROOM * peak + CONTEXT_BYTES)), 1)


def to_measure(todos: Sequence[Todo], rows: Mapping[str, Row], gpus: int) -> list[Todo]:
    """Return the lanes whose first cells tell what their like need of a GPU's memory.

    Args:
        todos: lanes with missing cells, in the order in which to begin them.
        rows: by cell id, of this run or of an earlier one.
        gpus: lanes that can run at once meanwhile.

    Returns:
        A lane of each network, image size, batch size and precision of which no row tells, then
        others while there are GPUs; each cut to its first cell that unlearns, for an original may
        be given and never train. Empty where all is known.
    """
    known = {
        _kind(todo)
        for todo in todos
        for cell in filter(_unlearns, todo.lane.cells)
        if _tells(rows.get(cell.cell_id, {}))
    }
    first_of_kind: dict[str, Todo] = {}
    for todo in todos:
        first_of_kind.setdefault(_kind(todo), todo)
    needed = [todo for kind, todo in first_of_kind.items() if kind not in known]
    if not needed:
        return []
    others = [todo for todo in todos if todo not in needed]
    return [_cut(todo) for todo in needed + others[: max(gpus - len(needed), 0)]]


def gpus_a_lane(lanes: int) -> float:
    """Return the part of a GPU that so many lanes have each, to Ray's precision of 1/10,000."""
    return 1.0 if lanes == 1 else int(10_000 / lanes) / 10_000


def _tells(row: Row) -> bool:
    resources = row.get("resources", {})
    alone = resources.get("workers") == 1
    return row.get("status") == OK and alone and "peak_device_bytes" in resources


def _kind(todo: Todo) -> str:
    """Return what decides how much memory a lane needs; of equal kinds, equal."""
    lane = todo.lane
    return repr((lane.model, lane.transform, lane.batch_size, lane.precision))


def _unlearns(cell: Cell) -> bool:
    """Return whether a cell starts from an original: a given one may never train."""
    return "weights" in cell.spec


def _cut(todo: Todo) -> Todo:
    """Return a lane of which only its first cell to unlearn is missing, and what that starts from.

    Where none unlearns, the first missing one.
    """
    missing = [cell for cell in todo.lane.cells if cell.cell_id in todo.generations]
    measured = next(filter(_unlearns, missing), missing[0])
    kept = [cell.cell_id for cell in missing if cell in (todo.lane.original, measured)]
    return replace(todo, generations={cell_id: todo.generations[cell_id] for cell_id in kept})
