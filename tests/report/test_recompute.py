"""Metrics computed again from a store: those of a real group, of old files, without torch."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load, save

from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.metrics.outputs import SAMPLES, TENSORS
from lotus_ray.report.collect import collect
from lotus_ray.report.entries import Entry
from lotus_ray.report.recompute import recompute
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.store.sealed import sealed
from tests.trial.test_run_cells import plan_group, run_work_order

WRONG = 0.123


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a real group: an original, a gold standard and two methods."""
    folder = tmp_path_factory.mktemp("lane")
    data = prepare(SOURCES["digits"], folder / "digits")
    _, _, work_order = plan_group(data, folder / "store")
    run_work_order(work_order)
    return folder / "store"


@pytest.fixture
def store(group: Path, tmp_path: Path) -> Store:
    shutil.copytree(group, tmp_path / "store")
    return Store.open(str(tmp_path / "store"))


def by_method(store: Store) -> dict[str, Row]:
    return {row.method: row for row in store.rows().values()}


def entries(store: Store, **options: Any) -> dict[str, Entry]:
    return {entry.method: entry for entry in collect(store, **options)}


def supersede(
    store: Store, row: Row, files: Mapping[str, bytes] | None = None, **changes: Any
) -> None:
    """Commit a changed row, and some changed files, in the place of a row."""
    kept = {name: store.artifact(row, name) for name in row.artifacts}
    attempt = store.begin(row.cell_id, row.row_version + 1, {})
    store.commit(attempt, replace(row, **changes), {**kept, **(files or {})})


def spoil(store: Store) -> None:
    """Give rows wrong metrics, reasons and intervals, and kept comparisons; artifacts stay."""
    for row in store.rows().values():
        wrong = dict.fromkeys(row.metrics, WRONG)
        intervals = {name: [WRONG, WRONG] for name in row.intervals}
        supersede(store, row, metrics=wrong, undefined={}, intervals=intervals)
    for name in store.objects.names("comparisons/"):
        store.replace(name, sealed({"jsd": WRONG, "jsd_compat": WRONG}))


def without_what_is_new(store: Store, row: Row) -> dict[str, bytes]:
    """Return the files of a row as metrics version 1 wrote them."""
    table = pq.read_table(io.BytesIO(store.artifact(row, SAMPLES))).drop_columns("confidence")
    tensors = load(store.artifact(row, TENSORS))
    tensors.pop("random_forget_probs", None)
    samples = io.BytesIO()
    pq.write_table(table, samples)
    return {SAMPLES: samples.getvalue(), TENSORS: save(tensors)}


def test_a_real_groups_metrics_are_recomputable(store: Store) -> None:
    rows = by_method(store)
    assert set(rows) == {"Original", "Gold Std", "Finetuning", "LoTUS"}
    for row in rows.values():
        found = recompute(row, rows["Original"], store)
        assert found.values.keys() == row.metrics.keys()
        for name, value in row.metrics.items():
            expected = None if value is None else pytest.approx(value, rel=0, abs=1e-9)
            assert found.values[name] == expected
        assert found.undefined == row.undefined
        assert found.intervals.keys() == row.intervals.keys()
        for name, interval in found.intervals.items():
            assert interval == pytest.approx(row.intervals[name], rel=0, abs=1e-9)
    assert rows["LoTUS"].metrics["rf_jsd"] > 0
    assert 0 < rows["LoTUS"].metrics["zrf"] < 1
    assert {f"mia_auc_{s}" for s in ("entropy", "loss", "confidence", "margin")} == set(
        rows["LoTUS"].intervals
    )


def test_a_report_with_metrics_computed_again_does_not_use_those_of_the_rows(store: Store) -> None:
    before = entries(store)
    spoil(store)
    spoiled, again = entries(store), entries(store, recompute=True)
    for method, entry in before.items():
        for metric in ("forget_acc", "rf_jsd", "mia_auc_margin", "zrf", "jsd"):
            assert spoiled[method].mean(metric) == WRONG != entry.mean(metric)
        assert again[method].values == entry.values
        assert again[method].undefined == entry.undefined
        assert again[method].intervals == entry.intervals
        assert spoiled[method].intervals != entry.intervals


@pytest.mark.parametrize("how", ["failed", "gone"])
def test_without_its_original_what_needs_it_is_null_with_a_reason(store: Store, how: str) -> None:
    before = entries(store)
    original = by_method(store)["Original"]
    if how == "failed":
        supersede(store, original, status="failed", metrics={}, timing={})
    else:
        shutil.rmtree(Path(store.location) / "rows" / original.cell_id)
    for method in ("LoTUS", "Gold Std"):
        found = entries(store, recompute=True)[method]
        for metric in ("rf_jsd", "rf_jsd_x1e4", "zrf"):
            assert found.mean(metric) is None
            assert set(found.undefined[metric].values()) == {"there is no good row of its original"}
        for metric in ("forget_acc", "mia_acc", "mia_auc_loss"):
            assert found.mean(metric) == before[method].mean(metric)


def test_files_of_older_metrics_leave_what_they_do_not_hold_null_with_a_reason(
    store: Store,
) -> None:
    """They gain the attacks by entropy, loss and margin, which they hold."""
    before = entries(store)
    for row in store.rows().values():
        old = {name: row.metrics[name] for name in ("forget_accuracy", "rf_jsd")}
        files = without_what_is_new(store, row)
        supersede(store, row, files, metrics=old, undefined={}, intervals={})
    found = entries(store, recompute=True)["LoTUS"]
    (confidence,) = set(found.undefined["mia_auc_confidence"].values())
    assert confidence == "the row is of metrics version 1, which did not keep the confidence"
    assert all("metrics version 1" in why for why in found.undefined["zrf"].values())
    gone = {"zrf", "mia_auc_confidence"}
    assert before["LoTUS"].values.keys() - found.values.keys() == gone
    for metric, values in found.values.items():
        assert values == before["LoTUS"].values[metric]
    kept = {"mia_auc_entropy", "mia_auc_loss", "mia_auc_margin"}
    assert kept <= found.values.keys()
    assert found.intervals.keys() == kept


def test_it_loads_neither_torch_nor_ray(store: Store) -> None:
    expected = entries(store)["LoTUS"].mean("mia_acc")
    spoil(store)
    code = (
        "import sys\n"
        "from lotus_ray.report.collect import collect\n"
        "from lotus_ray.store.results import Store\n"
        "found = collect(Store.open(sys.argv[1]), recompute=True)\n"
        "(lotus,) = [entry for entry in found if entry.method == 'LoTUS']\n"
        "loaded = [name for name in ('torch', 'ray') if name in sys.modules]\n"
        "print(repr(lotus.mean('mia_acc')), loaded)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, store.location],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == f"{expected!r} []\n"
