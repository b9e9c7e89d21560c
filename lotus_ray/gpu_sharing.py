"""Several lanes on one GPU: how many its memory holds, as the first cells of their kind show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lotus_ray.memory import USABLE
from lotus_ray.store import Row
from lotus_ray.todo import Todo

# What later cells may need beyond the first one measured, whose activations they share: SalUn's
# gradients and mask, SSD's importances. Chosen, not measured; a cell that needs yet more runs again
# on a whole GPU.
HEADROOM = 1.25


def lanes_a_gpu(rows: Iterable[Row], headroom: float = 1.0) -> int | None:
    """Return how many lanes the memory of one GPU holds, by the most that any cell needed.

    Args:
        rows: of cells that ran alike, with the peaks that `memory.device_memory` measured.
        headroom: how many times that a lane is to have.

    Returns:
        At least 1; None where no row knows of a GPU.
    """
    needs = [
        row["resources"]["peak_device_bytes"] / row["resources"]["device_bytes"]
        for row in rows
        if _knows_gpu(row)
    ]
    return max(int(USABLE / (headroom * max(needs))), 1) if needs else None


def to_measure(todos: Sequence[Todo], rows: Mapping[str, Row], gpus: int) -> list[Todo]:
    """Return the lanes whose first cells tell what their like need of a GPU's memory.

    Args:
        todos: lanes with missing cells, in the order in which to begin them.
        rows: by cell id, of this run or of an earlier one.
        gpus: lanes that can run at once meanwhile.

    Returns:
        A lane of each network, image size, batch size and precision of which no row tells, then
        others while there are GPUs; each cut after the first cell that starts from an original,
        for an original may never have trained. Empty where all is known.
    """
    known = {
        _kind(todo) for todo in todos if any(_knows_gpu(row) for row in _unlearned(todo, rows))
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


def _knows_gpu(row: Row) -> bool:
    return bool(row.get("resources", {}).get("device_bytes"))


def _kind(todo: Todo) -> str:
    """Return what decides how much memory a lane needs; of equal kinds, equal."""
    lane = todo.lane
    return repr((lane.model, lane.transform, lane.batch_size, lane.precision))


def _unlearned(todo: Todo, rows: Mapping[str, Row]) -> list[Row]:
    ids = [cell.cell_id for cell in todo.lane.cells if cell != todo.lane.original]
    return [rows[cell_id] for cell_id in ids if cell_id in rows]


def _cut(todo: Todo) -> Todo:
    """Return a lane of which everything after its first cell to unlearn counts as settled."""
    kept: dict[str, int] = {}
    for cell in todo.lane.cells:
        if cell.cell_id in todo.generations:
            kept[cell.cell_id] = todo.generations[cell.cell_id]
            if cell != todo.lane.original:
                break
    return replace(todo, generations=kept)
