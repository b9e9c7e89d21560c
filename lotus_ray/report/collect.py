"""Rows of a store -> one entry per benchmark × model × setting × method, with every seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from lotus_ray.report.columns import METRICS, show_own
from lotus_ray.report.comparison import Comparisons
from lotus_ray.report.counts import Counts
from lotus_ray.report.entries import Entry
from lotus_ray.report.forget_sets import named_apart
from lotus_ray.report.labels import labels_of
from lotus_ray.report.recompute import recomputed
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

METHOD_ORDER = (
    "Original",
    "Gold Std",
    "Finetuning",
    "NegGrad+",
    "Rnd Labeling",
    "Bad Teacher",
    "SCRUB",
    "SSD",
    "UNSIR",
    "SalUn",
    "LoTUS",
)
_VERSIONED = ("metrics", "weights")  # `weights` is the cell id of the original
_NO_GOLD = "there is no gold standard of this seed"


def collect(
    store: Store,
    shown_as: Mapping[str, Mapping[str, Any]] | None = None,
    recompute: bool = False,
) -> list[Entry]:
    """Read a store and group its rows.

    Args:
        store: the metric store.
        shown_as: benchmark, model and setting of the cells to show, by cell id. None shows all
            cells, under the names in their rows. Gold standards are used even if not shown.
        recompute: compute the metrics of every row again, from the outputs in the store.

    Returns:
        Entries sorted by benchmark, model, setting and the published table's order of methods.
        Variants of one method are named by the settings that differ: LoTUS(alpha=8).

    Raises:
        StoreError: a row or an artifact cannot be read.
    """
    rows = store.rows()
    show_own(row.spec for row in rows.values())
    if recompute:
        rows = recomputed(rows, _originals_of(rows), store)
    shown = [
        replace(row, **shown_as[cell_id]) if shown_as else row
        for cell_id, row in rows.items()
        if shown_as is None or cell_id in shown_as
    ]
    older = _older(shown, rows)
    hidden = {cell_id for result in older.values() for cell_id in result}
    shown = named_apart(store, [row for row in shown if row.cell_id not in hidden])
    golds = {_gold_key(row): row for row in rows.values() if _is_good_gold(row)}
    labels = labels_of(shown, rows)
    references = {
        row.cell_id: gold
        for row in shown
        if row.is_ok and (gold := golds.get(_reference_key(row, rows))) is not None
    }
    counts = Counts(store, (row for row in shown if row.is_ok))
    comparisons = Comparisons(store, afresh=recompute)
    comparisons.read((rows[cell_id], gold) for cell_id, gold in references.items())
    entries: dict[tuple[str, ...], Entry] = {}
    for row in shown:
        key = (row.benchmark, row.model, row.setting, labels[row.cell_id])
        entry = entries.setdefault(key, Entry(*key))
        entry.rows[row.seed] = row
        entry.older.extend(older.get(row.cell_id, ()))
        if row.is_ok:
            _add(entry, row, references.get(row.cell_id), comparisons)
            counts.add(entry, row)
    return sorted(entries.values(), key=_order)


def _add(entry: Entry, row: Row, gold: Row | None, comparisons: Comparisons) -> None:
    """Add the values of a good row to its entry, or why they are undefined."""
    timing = row.timing
    values: dict[str, Any] = {**row.metrics, **row.change, **timing}
    reasons = dict(row.undefined)
    resources = row.resources
    if "unlearn_seconds" in reasons:  # it was made elsewhere
        reasons["unlearn_device_seconds"] = reasons["unlearn_seconds"]
    elif resources.workers_by_attempt:
        reasons["unlearn_device_seconds"] = "the number of workers changed between attempts"
    elif resources.shares_gpu:
        reasons["unlearn_device_seconds"] = "its GPU was shared with other trials"
    else:
        values["unlearn_device_seconds"] = row.unlearn_seconds * (resources.workers or 1)
    if gold is not None:
        values |= _against_gold(row, gold, comparisons)
    if gold is None:
        reasons |= {"jsd": _NO_GOLD, "jsd_compat": _NO_GOLD, "avg_gap": _NO_GOLD}
    elif "avg_gap" not in values:
        reasons["avg_gap"] = "an accuracy that it averages over is undefined"
    for name, metric in METRICS.items():
        value = metric.read(values)
        if value is None and metric.figure in reasons:
            entry.undefined.setdefault(name, {})[row.seed] = reasons[metric.figure]
        if value is not None:
            entry.values.setdefault(name, {})[row.seed] = value
        if metric.figure in row.intervals:
            low, high = row.intervals[metric.figure]
            entry.intervals.setdefault(name, {})[row.seed] = (low, high)


def _against_gold(row: Row, gold: Row, comparisons: Comparisons) -> dict[str, float]:
    """Return the divergences of a cell from its gold standard, and Avg Gap."""
    result = comparisons.between(row, gold)
    names = ("mia_accuracy", "forget_accuracy", "retain_accuracy", "test_accuracy")
    pairs = [(row.metrics[name], gold.metrics[name]) for name in names]
    gaps = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    return result | ({"avg_gap": sum(gaps) / len(gaps)} if len(gaps) == len(names) else {})


def _older(shown: Iterable[Row], rows: Mapping[str, Row]) -> dict[str, list[str]]:
    """Return, by cell id, the same cells measured with earlier metrics versions."""
    alike: dict[str, list[Row]] = {}
    for row in shown:
        original = rows.get(row.spec.get("weights", ""))
        parts = [row.spec, original.spec if original else None]
        bare = [{k: v for k, v in part.items() if k not in _VERSIONED} for part in parts if part]
        weights = None if original else row.spec.get("weights")
        alike.setdefault(json.dumps([bare, weights], sort_keys=True), []).append(row)
    result = {}
    for cells in alike.values():
        *earlier, newest = sorted(cells, key=lambda row: row.spec.get("metrics", 0))
        result[newest.cell_id] = [row.cell_id for row in earlier]
    return result


def _is_good_gold(row: Row) -> bool:
    method = row.spec["method"]
    return bool(row.is_ok and method["name"] == "gold" and method.get("training_seed") is None)


def _gold_key(row: Row) -> str:
    """Return a key that an original and its gold standard share."""
    spec = dict(row.spec)
    method = spec.pop("method")
    spec.pop("relearn", None)  # an original has no curve
    recipe = {
        key: value
        for key, value in method.items()
        if key not in ("name", "version", "training_seed")
    }
    return json.dumps([spec, recipe], sort_keys=True)


def _reference_key(row: Row, rows: Mapping[str, Row]) -> str:
    original = rows.get(row.spec.get("weights", row.cell_id))
    return _gold_key(original) if original is not None else ""


def _originals_of(rows: Mapping[str, Row]) -> Callable[[Row], Row | None]:
    """Return a function from a row to its original's good row, or None."""
    good = [row for row in rows.values() if row.is_ok]
    originals = {_gold_key(row): row for row in good if row.spec["method"]["name"] == "original"}
    return lambda row: originals.get(_reference_key(row, rows))


def _order(entry: Entry) -> tuple[Any, ...]:
    base = entry.method.split("(")[0].split(" + ")[0]
    order = METHOD_ORDER.index(base) if base in METHOD_ORDER else len(METHOD_ORDER)
    return (entry.benchmark, entry.model, entry.setting, order, entry.method)
