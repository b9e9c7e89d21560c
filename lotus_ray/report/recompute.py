"""Compute the metrics of rows again from the outputs in the store, without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lotus_ray.metrics.outputs import SAMPLES, TENSORS, Outputs
from lotus_ray.metrics.summary import Summary, summarise
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row


def recompute(row: Row, original: Row | None, store: Store) -> Summary:
    """Compute the metrics of a good row in the same way as a trial does.

    Args:
        row: of the cell.
        original: the good row of its original. Without it, metrics that need it are undefined.
        store: with the artifacts of both.

    Returns:
        The metrics of today's version. Metrics that need outputs which an older version did not
        store are undefined.

    Raises:
        StoreError: an artifact is missing or changed.
    """
    summary = summarise(_outputs(row, store), _outputs(original, store) if original else None)
    for own in row.spec.get("own_metrics", ()):  # their code is not here: the values are kept
        name = own["name"]
        summary.values[name] = row.metrics.get(name)
        if name in row.undefined:
            summary.undefined[name] = row.undefined[name]
    return summary


def recomputed(
    rows: Mapping[str, Row], original_of: Callable[[Row], Row | None], store: Store
) -> dict[str, Row]:
    """Return rows by cell id, with the metrics of good rows computed again.

    Args:
        rows: by cell id.
        original_of: returns the good row of a row's original, or None.
        store: with the artifacts.

    Raises:
        StoreError: an artifact is missing or changed.
    """
    return {
        cell_id: replace(row, **_fields(row, recompute(row, original_of(row), store)))
        if row.is_ok
        else row
        for cell_id, row in rows.items()
    }


def _fields(row: Row, summary: Summary) -> dict[str, Any]:
    """Return the metrics of a row; why it has no seconds or weights stays."""
    others = {name: why for name, why in row.undefined.items() if name not in row.metrics}
    fields = summary.fields()
    return {**fields, "undefined": {**others, **fields["undefined"]}}


def _outputs(row: Row, store: Store) -> Outputs:
    return Outputs.from_files(store.artifact(row, SAMPLES), store.artifact(row, TENSORS))
