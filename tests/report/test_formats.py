"""What all formats say alike: marks, notes, hostile names; and what JSON says more than CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lotus_ray.cli.main import main
from lotus_ray.cli.report import command as command_of_report
from lotus_ray.report.collect import collect
from lotus_ray.report.columns import CHANGE, IN_TABLES, METRICS
from lotus_ray.report.entries import Entry
from lotus_ray.report.formats import FORMATS, to_csv, to_json, to_table
from lotus_ray.report.formats.shown import Figure, Table, one_line, tables
from lotus_ray.report.published import SOURCES
from lotus_ray.store.results import Store
from tests.report.test_statistics import CPU, GPU, entry, gold
from tests.stores import commit

HOSTILE = "a|b *c* _d_ `e` <script>alert(1)</script> & \\f #g $h% {i} ~j^ [k](l)\nm\x1b[31m τ±×中"


def rivals() -> list[Entry]:
    """Three methods of three seeds: A ahead of B, B of C, each of all seeds alike."""
    return [
        entry(name, {"rf_jsd": [low, low + 0.001, low + 0.002], "unlearn_seconds": [60.0] * 3})
        for name, low in (("A", 0.01), ("B", 0.02), ("C", 0.04))
    ]


def hostile(**values: Any) -> Entry:
    found = entry(HOSTILE, values or {"rf_jsd": [0.1, 0.2]})
    why = {"jsd": {1: HOSTILE}}
    return Entry(HOSTILE, HOSTILE, HOSTILE, HOSTILE, found.rows, found.values, why)


def rows_of(entries: list[Entry]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["metric"]): row for row in json.loads(to_json(entries))}


def test_tables_mark_the_best_and_the_second_best() -> None:
    (table,) = tables(rivals())
    assert table.headings[0].text == "RF-JSD"
    assert [line.figures[0].mark for line in table.lines] == [1, 2, 0]
    assert [line.figures[3].mark for line in table.lines] == [0, 0, 0], "equal times"
    text = to_table(rivals())
    assert re.search(r"^A +1\.10e-02 ±1\.00e-03\* ", text, re.MULTILINE)
    assert re.search(r"^B +2\.10e-02 ±1\.00e-03\+ ", text, re.MULTILINE)
    assert "* best, + second best\n" in text
    assert "second best" not in to_table([entry("A", {"rf_jsd": [0.1]})])


def test_figures_of_a_column_end_at_one_place() -> None:
    lines = to_table(rivals()).splitlines()
    assert {line.index("±") for line in lines[3:6]} == {len("Method  1.10e-02 ")}


def test_the_interval_of_json_by_hand() -> None:
    """1, 2, 3: 2 ± 4.302653/√3 = 2 ± 2.484138; of one seed there is none."""
    found = rows_of([entry("A", {"rf_jsd": [1.0, 2.0, 3.0]}), entry("B", {"rf_jsd": [1.0]})])
    assert found["A", "rf_jsd"]["interval"] == pytest.approx([-0.484138, 4.484138], abs=1e-6)
    assert found["B", "rf_jsd"]["interval"] is None
    assert found["A", "jsd"]["interval"] is None


def test_json_says_what_the_marks_rest_on() -> None:
    """Two golds differ in MIA by .01 and .03: a floor of .02. A, B, C rank 1, 2, 3 in all seeds."""
    golds = [gold({"mia_acc": [0.5, 0.5]}), gold({"mia_acc": [0.51, 0.53]}, seed=1)]
    found = rows_of([*rivals(), *golds])
    assert [found[name, "rf_jsd"]["mark"] for name in "ABC"] == [1, 2, None]
    assert found["B", "rf_jsd"]["ranks"] == {"1": 2.0, "2": 2.0, "3": 2.0}
    assert found["B", "rf_jsd"]["rank_agreement"] == pytest.approx(1)
    assert found["A", "mia_acc"]["noise_floor"] == pytest.approx(0.02)
    assert found["A", "rf_jsd"]["noise_floor"] is None
    assert found["Gold Std", "rf_jsd"]["ranks"] == {}
    assert found["A", "zrf"]["rank_agreement"] is None


def test_json_says_what_each_method_ran_on() -> None:
    found = rows_of([entry("A", {"rf_jsd": [1.0]}), entry("B", {"rf_jsd": [1.0]}, resources=GPU)])
    assert CPU["device"] == "EPYC"
    assert found["A", "rf_jsd"]["hardware"] == ["1 × EPYC, 2 threads"]
    assert found["B", "rf_jsd"]["hardware"] == ["2 × H200"]


def test_json_has_the_intervals_over_samples(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.check_writable()
    commit(store, "lotus", 7, intervals={"forget_accuracy": [0.4, 0.6]})
    found = rows_of(collect(store))
    assert found["LoTUS", "forget_acc"]["intervals"] == {"7": [0.4, 0.6]}
    assert found["LoTUS", "test_acc"]["intervals"] == {}


@pytest.mark.parametrize("against", [None, "paper"])
def test_hostile_names_are_one_line_of_a_table(against: str | None) -> None:
    text = to_table([hostile()], against)
    assert "\x1b" not in text
    assert sum(line.startswith("a|b *c*") for line in text.splitlines()) == 2, "title and line"
    assert one_line("a\n b\t\x00c\x1b\u2028d\u202e") == "a b c d"


def test_hostile_names_come_back_from_csv_and_json() -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([hostile()])))
    assert (row["benchmark"], row["method"]) == (HOSTILE, HOSTILE)
    rows = json.loads(to_json([hostile()]))
    assert {row["setting"] for row in rows} == {HOSTILE}
    assert len(rows) == len(set(METRICS) - set(CHANGE))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("against", [None, *SOURCES])
def test_an_empty_store_and_one_of_failures_have_a_report(
    form: str, against: str | None, tmp_path: Path
) -> None:
    assert FORMATS[form]([], against).strip()
    store = Store.open(str(tmp_path / "store"))
    store.check_writable()
    commit(store, "lotus", error="loss became nan")
    text = FORMATS[form](collect(store), against)
    assert ("loss became nan" in text) == (form != "csv")


def test_a_table_without_published_figures_has_no_footnotes() -> None:
    (table,) = tables(rivals())
    assert table.footnotes == ()
    assert not any(line.is_published for line in table.lines)
    assert Figure("1", "2").text == "1 ±2"
    assert not Table("", (), (), ()).has_marks


def test_the_command_knows_the_formats_and_the_sources(tmp_path: Path) -> None:
    options = {option.name: option for option in command_of_report.params}
    assert set(FORMATS) <= set(options["form"].type.choices)  # type: ignore[attr-defined]
    assert list(options["against"].type.choices) == list(SOURCES)  # type: ignore[attr-defined]
    store = Store.open(str(tmp_path / "store"))
    store.check_writable()
    names = {"benchmark": "CIFAR-10", "model": "ResNet18", "setting": "instance_10pct"}
    commit(store, "lotus", **names)  # type: ignore[arg-type]
    command = ["report", store.location, "--format", "csv", "--against"]
    for source, expected in (("paper", "paper Table 2"), ("notebooks", "results.ipynb")):
        result = CliRunner().invoke(main, [*command, source])
        assert (result.exit_code, expected in result.stdout) == (0, True)
    assert CliRunner().invoke(main, [*command, "news"]).exit_code == 2


def changed_by(distance: float, changed: float) -> dict[str, list[float]]:
    return {"rf_jsd": [0.1], "distance": [distance], "outputs_changed": [changed]}


def test_a_row_whose_outputs_equal_the_originals_is_marked() -> None:
    """SSD moved weights and changed no output; the original itself needs no mark."""
    entries = [
        entry("original", changed_by(0, 0), name="original"),
        entry("ssd", changed_by(0.0012, 0)),
        entry("lotus", changed_by(0.5, 0.01)),
    ]
    (table,) = tables(entries)
    assert [line.name.letters for line in table.lines] == ["", "=", ""]
    assert "ssd of seed 1: its outputs equal the original's" in table.notes
    assert sum("equal the original's" in note for note in table.notes) == 1
    text = to_table(entries)
    assert re.search(r"^ssd \[=\] .* 1\.2e-03 ", text, re.MULTILINE)


def test_the_distance_is_a_column_where_any_row_has_it() -> None:
    with_it, without = entry("A", changed_by(0.25, 1)), entry("B", {"rf_jsd": [0.1]})
    (table,) = tables([with_it, without])
    assert table.headings[-1].text == "Distance"
    assert [line.figures[-1].text for line in table.lines] == ["2.5e-01", "-"]
    (older,) = tables([without])
    assert "Distance" not in [heading.text for heading in older.headings]
    assert ("B", "distance") in rows_of([with_it, without])
    assert ("B", "distance") not in rows_of([without])


def test_a_narrow_terminal_gets_fewer_columns_and_is_told_which() -> None:
    """Of a table of 9 columns and spreads: what is least needed goes first."""
    values = {name: [0.1, 0.2] for name in (*IN_TABLES, "distance")}
    entries = [entry("A", values), entry("B", values)]
    whole = to_table(entries)
    assert to_table(entries, width=1000) == whole
    assert "too narrow" not in whole
    seen = set()
    for width in (120, 100, 80, 60, 40):
        lines = to_table(entries, width=width).splitlines()
        assert max(map(len, lines[1:5])) <= width
        (said,) = [line for line in lines if line.startswith("too narrow for ")]
        assert said.startswith("too narrow for Distance")
        assert "RF-JSD" in lines[1]
        assert "Distance" not in lines[1]
        seen.add(said)
    assert len(seen) > 2
    assert any("±" in said for said in seen)
