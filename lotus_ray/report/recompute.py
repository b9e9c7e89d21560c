"""The metrics of rows, computed again from the outputs that the store keeps, without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lotus_ray.metrics.outputs import SAMPLES, TENSORS, Outputs
from lotus_ray.metrics.summary import Summary, summarise
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row


def recompute(row: Row, original: Row | None, store: Store) -> Summary:
    """Compute the metrics of a good row as the trial did that made it.

    Args:
        row: of the cell.
        original: the good row of its original; without it, what needs it is undefined.
        store: where both have their artifacts.

    Returns:
        What the row of a cell that is run today would hold. What its files do not hold, those of
        older metrics, is undefined.

    Raises:
        StoreError: an artifact is missing or changed.
    """
    return summarise(_outputs(row, store), _outputs(original, store) if original else None)


def recomputed(
    rows: Mapping[str, Row], original_of: Callable[[Row], Row | None], store: Store
) -> dict[str, Row]:
    """Return rows by cell id, the metrics of each good one computed again."""
    return {
        cell_id: replace(row, **recompute(row, original_of(row), store).fields())
        if row.is_ok
        else row
        for cell_id, row in rows.items()
    }


def _outputs(row: Row, store: Store) -> Outputs:
    return Outputs.from_files(store.artifact(row, SAMPLES), store.artifact(row, TENSORS))
