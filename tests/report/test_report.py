from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.metrics import jsd_compat
from lotus_ray.report.collect import METHOD_ORDER, collect
from lotus_ray.report.columns import CHANGE, METRICS
from lotus_ray.report.entries import Entry
from lotus_ray.report.formats import COLUMNS, FORMATS, to_csv, to_json, to_table
from lotus_ray.store.results import Store
from tests.stores import EVEN, FIGURES, FIRST, LAST, commit


def entry(store: Store, method: str = "LoTUS", **options: Any) -> Entry:
    """Return the only entry of a method."""
    (found,) = [e for e in collect(store, **options) if e.method == method]
    return found


def read_csv(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV by column."""
    return list(csv.DictReader(io.StringIO(text)))


def test_mean_std_and_n_over_seeds_by_hand(store: Store) -> None:
    """0.1, 0.2, 0.6: mean 0.3; squares 0.04 + 0.01 + 0.09 over 2 are 0.07, its root the std."""
    for seed, accuracy in ((1, 0.1), (2, 0.2), (3, 0.6)):
        commit(store, "lotus", seed, metrics={"forget_accuracy": accuracy})
    found = entry(store)
    assert math.isclose(found.mean("forget_acc") or 0, 0.3)
    assert math.isclose(found.std("forget_acc") or 0, math.sqrt(0.07))
    assert found.n("forget_acc") == 3
    assert found.values["forget_acc"] == {1: 0.1, 2: 0.2, 3: 0.6}


def test_one_seed_has_no_std(store: Store) -> None:
    commit(store, "lotus")
    assert entry(store).mean("rf_jsd") == 0.25
    assert entry(store).std("rf_jsd") is None
    assert entry(store).n("rf_jsd") == 1


def test_units_of_the_published_columns_by_hand(store: Store) -> None:
    """90 s are 1.5 min; 2e-4 is 2 in units of 1e-4."""
    commit(store, "lotus", seconds=90.0)
    found = entry(store)
    assert found.mean("time_min") == 1.5
    assert found.mean("unlearn_seconds") == 90
    assert math.isclose(found.mean("rf_jsd_x1e4") or 0, 2.0)


def test_every_row_figure_reaches_its_column(store: Store) -> None:
    figures = {name: place / 16 for place, name in enumerate(FIGURES, start=1)}
    commit(store, "lotus", metrics=figures, seconds=4.0)
    found = entry(store)
    for column, name in {
        "forget_acc": "forget_accuracy",
        "retain_acc": "retain_accuracy",
        "unseen_acc": "unseen_accuracy",
        "test_acc": "test_accuracy",
        "mia_acc": "mia_accuracy",
        "rf_jsd": "rf_jsd",
    }.items():
        assert found.mean(column) == figures[name]
    assert found.mean("prepare_seconds") == 1
    assert found.mean("evaluate_seconds") == 2


def test_jsd_to_gold_by_hand(store: Store) -> None:
    """(½, ½) to (1, 0): ¼·ln(4/3) + ½·ln(4/3); (0, 1) to (1, 0): ln 2; gold to itself: 0."""
    commit(store, "original", probs=EVEN)
    commit(store, "gold", probs=FIRST)
    commit(store, "lotus", probs=LAST)
    assert math.isclose(entry(store, "Original").mean("jsd") or 0, 0.75 * math.log(4 / 3))
    assert math.isclose(entry(store, "LoTUS").mean("jsd") or 0, math.log(2))
    assert entry(store, "Gold Std").mean("jsd") == 0
    assert entry(store, "Gold Std").mean("jsd_x1e4") == 0
    expected = jsd_compat(LAST, FIRST) * 1e4
    assert math.isclose(entry(store, "LoTUS").mean("jsd_x1e4") or 0, expected)
    assert expected > 0


def test_avg_gap_by_hand(store: Store) -> None:
    """|0.5−0.9| + |0.5−0.8| + |0.5−0.4| + |0.5−0.5| = 0.8 over 4 is 0.2; unseen is no part."""
    commit(store, "original")
    commit(
        store,
        "gold",
        metrics={
            "mia_accuracy": 0.9,
            "forget_accuracy": 0.8,
            "retain_accuracy": 0.4,
            "test_accuracy": 0.5,
            "unseen_accuracy": 0.0,
        },
    )
    commit(store, "lotus")
    assert math.isclose(entry(store).mean("avg_gap") or 0, 0.2)
    assert entry(store, "Gold Std").mean("avg_gap") == 0


def test_each_seed_is_compared_with_the_gold_of_its_own(store: Store) -> None:
    """Seed 1: (½, ½) to (½, ½) is 0; seed 2: (0, 1) to (1, 0) is ln 2."""
    for seed, gold, lotus in ((1, EVEN, EVEN), (2, FIRST, LAST)):
        commit(store, "original", seed)
        commit(store, "gold", seed, gold)
        commit(store, "lotus", seed, lotus)
    assert entry(store).values["jsd"] == pytest.approx({1: 0.0, 2: math.log(2)})


@pytest.mark.parametrize("gold", ["none", "of another seed", "of another recipe", "failed"])
def test_without_its_gold_a_value_is_null_with_a_reason(store: Store, gold: str) -> None:
    commit(store, "original")
    commit(store, "lotus")
    if gold == "of another seed":
        commit(store, "gold", seed=2)
    elif gold == "of another recipe":
        commit(store, "gold", params={"epochs": 6})
    elif gold == "failed":
        commit(store, "gold", error="loss became nan")
    found = entry(store)
    rows = {(row["method"], row["metric"]): row for row in json.loads(to_json([found]))}
    for metric in ("jsd", "jsd_x1e4", "avg_gap"):
        assert found.mean(metric) is None
        row = rows["LoTUS", metric]
        assert (row["mean"], row["std"], row["n"], row["values"]) == (None, None, 0, {})
        assert row["undefined"] == {"1": "there is no gold standard of this seed"}
    assert not {"jsd", "jsd_x1e4", "avg_gap"} & {row["metric"] for row in read_csv(to_csv([found]))}
    table = to_table([found])
    assert table.splitlines()[3].split()[:4] == ["LoTUS", "2.50e-01", "-", "-"]
    assert "there is no gold standard of this seed" in table


def test_a_gold_that_is_not_shown_is_found_anyway(store: Store) -> None:
    commit(store, "original")
    commit(store, "gold", probs=FIRST)
    shown = commit(store, "lotus", probs=LAST)
    (only,) = collect(store, {shown: {"setting": "renamed"}})
    assert only.method == "LoTUS"
    assert math.isclose(only.mean("jsd") or 0, math.log(2))


def test_an_undefined_metric_is_null_with_its_reason(store: Store) -> None:
    why = "no class is in both the forget set and the held-out set"
    commit(store, "lotus", 1, metrics={"rf_jsd": None}, undefined={"rf_jsd": why})
    rows = {row["metric"]: row for row in json.loads(to_json(collect(store)))}
    assert (rows["rf_jsd"]["mean"], rows["rf_jsd"]["n"]) == (None, 0)
    assert rows["rf_jsd"]["undefined"] == {"1": why}
    assert f"no RF-JSD: {why}" in to_table(collect(store))


def test_a_gap_is_not_averaged_over_fewer_than_four(store: Store) -> None:
    commit(store, "original")
    commit(store, "gold")
    commit(store, "lotus", metrics={"mia_accuracy": None, "forget_accuracy": 1.0})
    assert entry(store).mean("avg_gap") is None
    assert entry(store).n("jsd") == 1


def test_csv_has_exactly_these_columns_at_full_precision(store: Store) -> None:
    values = (1 / 3, 0.1 + 0.2)
    for seed, value in enumerate(values):
        commit(store, "lotus", seed, metrics={"rf_jsd": value})
    text = to_csv(collect(store))
    assert text.splitlines()[0] == "benchmark,model,setting,method,metric,mean,std,n"
    assert ",".join(COLUMNS) == text.splitlines()[0]
    (row,) = [row for row in read_csv(text) if row["metric"] == "rf_jsd"]
    found = entry(store)
    assert row == {
        "benchmark": "Digits",
        "model": "Net",
        "setting": "instance_10pct",
        "method": "LoTUS",
        "metric": "rf_jsd",
        "mean": repr(found.mean("rf_jsd")),
        "std": repr(found.std("rf_jsd")),
        "n": "2",
    }
    assert float(row["mean"]) == found.mean("rf_jsd") == sum(values) / 2
    assert len(row["mean"]) > 15


def test_csv_leaves_the_std_of_one_seed_empty_and_quotes_names(store: Store) -> None:
    commit(store, "lotus", benchmark='Digits, "clean"')
    (row,) = [row for row in read_csv(to_csv(collect(store))) if row["metric"] == "rf_jsd"]
    assert (row["benchmark"], row["std"], row["n"]) == ('Digits, "clean"', "", "1")


def test_json_holds_the_rows_of_the_csv_and_the_value_of_each_seed(store: Store) -> None:
    for seed, value in ((7, 1 / 3), (8, 2 / 3)):
        commit(store, "lotus", seed, metrics={"rf_jsd": value})
    entries = collect(store)
    rows = json.loads(to_json(entries))
    assert [row["metric"] for row in rows] == [name for name in METRICS if name not in CHANGE]
    (row,) = [row for row in rows if row["metric"] == "rf_jsd"]
    assert row["values"] == {"7": 1 / 3, "8": 2 / 3}
    assert (row["mean"], row["n"], row["failures"]) == (0.5, 2, {})
    known = [row for row in rows if row["mean"] is not None]
    assert [{name: str(row[name]) for name in COLUMNS} for row in known] == read_csv(
        to_csv(entries)
    )


def test_variants_of_a_method_are_told_apart_by_what_differs(store: Store) -> None:
    for alpha in (2.0, 8.0):
        for seed in (1, 2):
            commit(store, "lotus", seed, params={"alpha": alpha, "lr": 0.1})
    entries = collect(store)
    assert [e.method for e in entries] == ["LoTUS(alpha=2.0)", "LoTUS(alpha=8.0)"]
    assert [e.n("rf_jsd") for e in entries] == [2, 2]


def test_two_things_that_differ_are_both_named(store: Store) -> None:
    commit(store, "lotus", params={"alpha": 2.0, "lr": 0.1})
    commit(store, "lotus", params={"alpha": 8.0, "lr": 0.2})
    assert [e.method for e in collect(store)] == [
        "LoTUS(alpha=2.0, lr=0.1)",
        "LoTUS(alpha=8.0, lr=0.2)",
    ]


def test_a_variant_is_told_by_what_it_has_and_the_usual_one_has_not(store: Store) -> None:
    for head_only in (False, True):
        commit(store, "finetune", params={"head_only": head_only})
    assert [e.method for e in collect(store)] == ["Finetuning", "Finetuning(head_only=true)"]


def test_what_an_inner_method_brings_is_told_by_its_name_alone(store: Store) -> None:
    """SalUn over two methods; over one of them with two learning rates."""
    for inner in (
        {"name": "relabel", "lr": 0.1, "momentum": 0.9},
        {"name": "lotus", "lr": 0.2, "alpha": 2.0},
    ):
        commit(store, "salun", params={"inner": inner})
    assert [e.method for e in collect(store)] == ["salun(inner=lotus)", "salun(inner=relabel)"]
    commit(store, "salun", params={"inner": {"name": "relabel", "lr": 0.3, "momentum": 0.9}})
    assert [e.method for e in collect(store)] == [
        "salun(inner.lr=0.1, inner=relabel)",
        "salun(inner.lr=0.2, inner=lotus)",
        "salun(inner.lr=0.3, inner=relabel)",
    ]


def test_seeds_alone_are_not_variants(store: Store) -> None:
    for seed in (1, 2, 3):
        commit(store, "lotus", seed)
    assert [e.method for e in collect(store)] == ["LoTUS"]


def test_rivals_of_two_originals_are_not_mixed(store: Store) -> None:
    for epochs, accuracy in ((5, 0.1), (6, 0.9)):
        recipe = {"epochs": epochs}
        commit(store, "original", params=recipe)
        commit(store, "gold", params=recipe)
        commit(store, "lotus", original=recipe, metrics={"forget_accuracy": accuracy})
    found = {e.method: e.mean("forget_acc") for e in collect(store) if "LoTUS" in e.method}
    assert found == {"LoTUS(original.epochs=5)": 0.1, "LoTUS(original.epochs=6)": 0.9}


def test_a_job_may_call_its_cells_otherwise_than_their_rows(store: Store) -> None:
    cell_id = commit(store, "lotus")
    commit(store, "finetune")
    name = {"benchmark": "B", "model": "M", "setting": "S"}
    (only,) = collect(store, {cell_id: name})
    assert (only.benchmark, only.model, only.setting, only.method) == ("B", "M", "S", "LoTUS")


def test_methods_stand_in_the_order_of_the_published_table(store: Store) -> None:
    for label in (*reversed(METHOD_ORDER), "Aardvark"):
        commit(store, label)
    assert [e.method for e in collect(store)] == [*METHOD_ORDER, "Aardvark"]
    assert METHOD_ORDER[:2] == ("Original", "Gold Std")
    assert METHOD_ORDER[-1] == "LoTUS"


def test_benchmarks_models_and_settings_have_tables_of_their_own(store: Store) -> None:
    commit(store, "lotus", 1, benchmark="B")
    commit(store, "lotus", 2, benchmark="A", model="Z")
    commit(store, "lotus", 3, benchmark="A", model="Y", setting="b")
    commit(store, "lotus", 4, benchmark="A", model="Y", setting="a")
    entries = collect(store)
    heads = ["A, Y, a", "A, Y, b", "A, Z, instance_10pct", "B, Net, instance_10pct"]
    assert [", ".join((e.benchmark, e.model, e.setting)) for e in entries] == heads
    blocks = to_table(entries).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == heads


def test_the_table_rounds_and_shows_the_spread_by_hand(store: Store) -> None:
    """0.1 and 0.3: mean 0.2, std √0.02 = 0.1414; 0.25 twice: 2.50e-01 with 0.00e+00; 60 s."""
    for seed, accuracy in ((1, 0.1), (2, 0.3)):
        commit(store, "lotus", seed, metrics={"forget_accuracy": accuracy})
    head, rule, line = to_table(collect(store)).splitlines()[1:4]
    assert head.split()[0] == "Method"
    assert set(rule) == {"-"}
    assert len(head) == len(rule) == len(line)
    assert "0.200 ±0.141" in line
    assert "2.50e-01 ±0.00e+00" in line
    assert "60.0 ±0.0" in line
    assert line.split()[-1] == "2"


def test_a_failed_cell_is_listed_with_the_first_line_of_its_error(store: Store) -> None:
    commit(store, "lotus", 1)
    commit(store, "lotus", 2, error="loss became nan at step 3 of phase 0\n  where: phase 0")
    found = entry(store)
    assert found.failures == {2: "diverged: loss became nan at step 3 of phase 0"}
    assert found.n("rf_jsd") == 1
    text = to_table([found])
    assert "LoTUS, seed 2: diverged: loss became nan at step 3 of phase 0\n" in text
    assert "where" not in text
    failures = {json.dumps(row["failures"]) for row in json.loads(to_json([found]))}
    assert failures == {'{"2": "diverged: loss became nan at step 3 of phase 0"}'}


def test_a_method_that_only_failed_is_still_in_the_table(store: Store) -> None:
    commit(store, "lotus", error="loss became nan")
    assert to_table(collect(store)).splitlines()[3].split() == ["LoTUS", *["-"] * 9, "0"]
    assert read_csv(to_csv(collect(store))) == []


def test_a_retried_cell_is_no_longer_a_failure(store: Store) -> None:
    commit(store, "lotus", error="loss became nan")
    commit(store, "lotus", row_version=1)
    assert entry(store).failures == {}
    assert entry(store).n("rf_jsd") == 1


def test_a_changed_artifact_is_an_error(store: Store) -> None:
    commit(store, "original")
    cell_id = commit(store, "gold")
    row = store.row(cell_id)
    assert row is not None
    path = Path(store.location) / row.artifacts["tensors.safetensors"].name
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(StoreError, match="changed since it was written"):
        collect(store)


def test_an_empty_store_has_an_empty_report(store: Store) -> None:
    assert collect(store) == []
    assert to_table([]) == "The store holds no rows.\n"
    assert to_csv([]) == ",".join(COLUMNS) + "\n"
    assert json.loads(to_json([])) == []


def test_formats_are_known_by_name() -> None:
    assert FORMATS["table"] is to_table
    assert FORMATS["csv"] is to_csv
    assert FORMATS["json"] is to_json


def test_making_a_report_loads_neither_torch_nor_ray(store: Store) -> None:
    commit(store, "original")
    commit(store, "gold", probs=FIRST)
    code = (
        "import sys\n"
        "from lotus_ray.report.collect import collect\n"
        "from lotus_ray.report.formats import FORMATS\n"
        "from lotus_ray.store.results import Store\n"
        "entries = collect(Store.open(sys.argv[1]))\n"
        "text = ''.join(form(entries) for form in FORMATS.values())\n"
        "print('Gold Std' in text, [name for name in ('torch', 'ray') if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, store.location],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "True []\n"
