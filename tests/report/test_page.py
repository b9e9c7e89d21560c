from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lotus_ray.cli.main import main
from lotus_ray.report import page
from lotus_ray.report.collect import collect
from lotus_ray.report.columns import IN_TABLES
from lotus_ray.report.entries import groups
from lotus_ray.report.figures import FIGURES
from lotus_ray.report.page.tables import table_of
from lotus_ray.report.page.templates import REPLACEMENT
from lotus_ray.report.statistics import marks
from lotus_ray.store.results import Store
from tests.cli.test_cli import grid
from tests.report.made_up import HOSTILE, commit, outputs, three_seeds
from tests.report.pages import Page, check_is_alone, check_links, html_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store.open(str(tmp_path / "a store"))
    opened.check_writable()
    return opened


def run(*arguments: object) -> Result:
    """Run the command in this process; a bug is raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_page_has_head_table_figures_and_cells(store: Store) -> None:
    three_seeds(store)
    html = html_of(store)
    check_is_alone(html)
    check_links(html)
    found = Page(html)
    assert html.startswith("<!doctype html>")
    assert "cells 21 done, 0 failed" in found.text
    assert "seeds 1, 2, 3" in found.text
    assert "devices 1 × CPU" in found.text
    assert "versions python 3.11; torch 2.6" in found.text
    assert "committed 2026-01-02 03:04:05 UTC" in found.text
    assert found.tags["svg"] == found.tags["figcaption"] == len(FIGURES)
    assert found.tags["details"] == 21 + 3
    assert len([one for one in found.values("id") if one.startswith("cell-")]) == 21


def test_the_table_has_mean_std_and_the_whole_number_to_sort_by(store: Store) -> None:
    three_seeds(store)
    (group,) = groups(collect(store))
    found = table_of(group)
    for line, entry in zip(found.lines, group.entries, strict=True):
        assert line.method == entry.method
        for value, name in zip(line.values, IN_TABLES, strict=True):
            assert float(value.sort) == entry.mean(name)
            assert value.text
            assert value.std
    shown = Page(html_of(store)).rows
    assert [cell.strip() for cell in shown[0]][:2] == ["Method", "RF-JSD"]
    first = group.entries[0]
    assert shown[1][0] == first.method
    assert shown[1][1].split() == [f"{first.mean('rf_jsd'):.2e}", f"±{first.std('rf_jsd'):.2e}"]


def test_a_row_that_changed_nothing_is_marked_as_in_the_terminal(store: Store) -> None:
    commit(store, "original")
    commit(store, "gold")
    commit(store, "ssd", metrics={"outputs_changed": 0.0})
    commit(store, "lotus", metrics={"outputs_changed": 0.5})
    html = html_of(store)
    assert "JSD says how far the answers on them are from gold's." in Page(html).text
    named = [row[0].split() for row in Page(html).rows]
    assert ["SSD", "[=]"] in named
    assert ["LoTUS"] in named


def test_best_and_second_best_are_marked_as_the_statistics_say(store: Store) -> None:
    for method, value in (("scrub", 0.3), ("ssd", 0.1), ("lotus", 0.2)):
        for seed in (1, 2, 3):
            commit(store, method, seed, metrics={"rf_jsd": value + seed / 1000})
    (group,) = groups(collect(store))
    assert marks(group, "rf_jsd") == {"SSD": 1, "LoTUS": 2}
    found = {line.method: line.values[0].mark for line in table_of(group).lines}
    assert found == {"SCRUB": 0, "SSD": 1, "LoTUS": 2}
    rows = {row[0]: row[1] for row in Page(html_of(store)).rows[1:4]}
    assert " best " in rows["SSD"]
    assert " second best " in rows["LoTUS"]
    assert "best" not in rows["SCRUB"]


def test_a_cell_says_all_its_row_holds_at_full_precision(store: Store) -> None:
    third = 1 / 3
    cell_id = commit(
        store,
        "lotus",
        params={"inner": {"alpha": 0.1 + 0.2}},
        metrics={"rf_jsd": third, "mia_accuracy": None},
        undefined={"mia_accuracy": "one class only"},
        intervals={"rf_jsd": [0.3, 0.1 + 0.7]},
        counters={"images_decoded": 17},
        data_notes=["two images are the same"],
        bad_images={"train": 3},
    )
    row = store.row(cell_id)
    assert row is not None
    text = Page(html_of(store)).text
    for said in (
        f"rf_jsd {third!r} 95 % over samples: 0.3 to 0.7999999999999999",
        "mia_accuracy null one class only",
        f"method.inner.alpha {0.1 + 0.2!r}",
        "images_decoded 17",
        "two images are the same",
        "train 3",
        "unlearn_seconds",
        "attempts 1",
        f"cell_id {cell_id}",
        row.artifacts["samples.parquet"].sha256,
    ):
        assert said in text


def test_a_failure_leads_to_its_cell_with_its_traceback(store: Store) -> None:
    commit(store, "lotus", 1)
    cell_id = commit(
        store, "lotus", 2, error="loss became nan\nin phase 3", traceback="Traceback: deep"
    )
    html = html_of(store)
    check_links(html)
    assert (
        f'<a class="bad" href="#cell-{cell_id}">LoTUS, seed 2: failed: loss became nan</a>' in html
    )
    text = Page(html).text
    assert "Diverged: loss became nan in phase 3" in text
    assert "Traceback: deep" in text
    assert "1 done, 1 failed" in text


def test_an_empty_store_has_a_page(store: Store) -> None:
    html = html_of(store)
    check_is_alone(html)
    assert "The store holds no rows." in Page(html).text


def test_a_store_with_only_failed_cells_has_a_page(store: Store) -> None:
    for method in ("original", "lotus"):
        commit(store, method, error="no room")
    html = html_of(store)
    check_is_alone(html)
    check_links(html)
    found = Page(html)
    assert found.tags["svg"] == 0
    assert found.text.count("no figure.") == len(FIGURES)
    assert [cell.split() for cell in found.rows[2]][1:3] == [["-"], ["-"]]


def test_one_seed_without_a_gold_standard_has_a_page(store: Store) -> None:
    commit(store, "original")
    commit(store, "lotus")
    html = html_of(store)
    check_is_alone(html)
    text = Page(html).text
    assert "no gold standard" in text
    assert "JSD says how far" not in text
    assert "RF-JSD beside JSD: no figure." in text
    assert "±" not in "".join("".join(row) for row in Page(html).rows)


def test_a_grid_that_forgets_a_class_has_a_page(store: Store) -> None:
    """No RF-JSD without the class in the held-out set; the forget set alone has outputs."""
    why = "no class is in both"
    for method in ("original", "gold", "lotus"):
        commit(
            store,
            method,
            metrics={"rf_jsd": None, "unseen_accuracy": None, "mia_accuracy": None},
            undefined={"rf_jsd": why, "mia_accuracy": why},
            files=outputs(1, entropy=0.0, roles={"forget": 5}),
        )
    html = html_of(store)
    check_is_alone(html)
    assert f"no RF-JSD, MIA: {why}" in Page(html).text
    assert "RF-JSD: no figure." in Page(html).text


def test_every_metric_has_notes_of_its_own(store: Store) -> None:
    """TPR at .1 % takes 1,000 samples that are no members; no method has a value of it."""
    few, single = "fewer than 1000 held out", "one class only"
    for method in ("original", "lotus"):
        commit(
            store,
            method,
            metrics={"mia_tpr_01pct_loss": None, "mia_accuracy": None},
            undefined={"mia_tpr_01pct_loss": few, "mia_accuracy": single},
        )
    html = html_of(store)
    main, full = html.split("<summary>Every metric</summary>")
    full = full.partition("</details>")[0]
    assert f"no TPR@0.1 % loss: {few}" in full
    assert few not in main
    assert f"no MIA: {single}" in main
    assert single not in full
    assert "no JSD ×1e4: there is no gold standard" in full
    (group,) = groups(collect(store))
    assert "TPR@0.1 % loss" not in [heading.text for heading in table_of(group).full_headings]


def test_the_interval_of_a_rate_keeps_to_rates(store: Store) -> None:
    """Of .002, .002 and .014 the t interval over seeds begins below 0."""
    for seed, rate in enumerate((0.002, 0.002, 0.014), start=1):
        commit(store, "lotus", seed, metrics={"mia_auc_entropy": 0.6, "mia_tpr_1pct_entropy": rate})
    (group,) = groups(collect(store))
    (line,) = table_of(group).lines
    assert "0.00 to 0.02" in [value.below for value in line.values]


def test_hostile_names_and_errors_are_text(store: Store) -> None:
    hostile = {"benchmark": HOSTILE, "model": HOSTILE, "setting": "\x00\u202e\ud800<b>"}
    commit(store, HOSTILE, params={HOSTILE: HOSTILE}, data_notes=[HOSTILE], **hostile)
    commit(store, "_hidden", metrics={HOSTILE: 0.5}, versions={HOSTILE: HOSTILE}, **hostile)
    commit(store, "lotus", error=HOSTILE, traceback=HOSTILE, committed_at=HOSTILE, **hostile)
    html = html_of(store)
    check_is_alone(html)
    check_links(html)
    found = Page(html)
    assert found.tags["b"] == 0
    assert found.text.count("<script>alert(1)</script>") > 10
    assert not re.search("[\x00-\x08\ud800-\udfff]", html)
    assert "\u202e" not in html
    assert html.encode()


def test_no_name_turns_the_direction_of_the_page(store: Store) -> None:
    """Overrides, isolates and marks of direction: the twelve that Unicode has."""
    marks = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F]
    turning = "".join(map(chr, marks))
    commit(store, "lotus", benchmark=f"{turning}B")
    html = html_of(store)
    assert not set(turning) & set(html)
    assert REPLACEMENT * len(turning) + "B" in html


def test_smoke_rows_are_said_to_mean_nothing(store: Store) -> None:
    commit(store, "scrub", smoke=True)
    commit(store, "lotus")
    assert "1 of 2 cells are smoke tests" in Page(html_of(store)).text


def test_many_cells_are_described_in_brief(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FULL_CELLS", 3)
    for seed in range(6):
        commit(store, "lotus", seed, error="no room" if seed > 1 else None)
    html = html_of(store)
    check_links(html)
    found = Page(html)
    assert "6 cells, more than 3" in found.text
    assert len([one for one in found.values("id") if one.startswith("cell-")]) == 3
    brief = [row for row in found.rows if len(row) == 5 and row[0] == "LoTUS"]
    assert [row[1] for row in brief] == ["0", "1", "5"]


def test_many_tables_have_few_figures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FULL_TABLES", 2)
    monkeypatch.setattr(page, "DRAWN_TABLES", 3)
    for number in range(4):
        commit(store, "lotus", benchmark=f"B{number}")
    html = html_of(store)
    check_links(html)
    found = Page(html)
    assert found.tags["svg"] == 3 * len(page.FEW)
    assert "more than 2 tables" in found.text
    assert "(the first 3 of them)" in found.text
    assert found.tags["nav"] == 1


def test_the_same_store_has_the_same_page(store: Store) -> None:
    three_seeds(store)
    assert html_of(store) == html_of(store)


def test_the_command_writes_a_page_and_figures(store: Store, tmp_path: Path) -> None:
    commit(store, "lotus")
    output, folder = tmp_path / "page.html", tmp_path / "figures"
    result = run(
        "report", store.location, "--format", "html", "--output", output, "--figures", folder
    )
    assert (result.exit_code, result.stdout) == (0, "")
    assert output.read_text(encoding="utf-8") == html_of(store)
    assert f"{len(list(folder.iterdir()))} files of figures: {folder}" in result.stderr
    assert run("report", store.location, "--format", "html").stdout == html_of(store)


def test_published_figures_stand_beside_ours_with_their_defects(store: Store) -> None:
    """ImageNet's table has 59.27 minutes for SalUn, of which about 20 are true."""
    name = {"benchmark": "ImageNet-1K", "model": "ViT-B/16"}
    commit(store, "lotus", **name, setting="instance_5perclass_retain45")
    commit(store, "finetune", benchmark=HOSTILE)
    result = run("report", store.location, "--format", "html", "--against", "paper")
    assert result.exit_code == 0
    beside = result.stdout.split("Beside the published figures</h3>")
    assert len(beside) == 3  # a table each
    unknown, known = (part.split("</ul>")[0] for part in beside[1:])
    assert re.search(r">59\.27<sup>[a-z]</sup> <small>±0\.37</small>", known)
    assert "of the 59.27 min of SalUn on ImageNet-1K about 20 are true" in known
    assert 'class="published"' not in unknown
    assert "has nothing on this table" in unknown
    assert "<script>alert" not in result.stdout
    assert "Beside the published figures" not in html_of(store)


def test_a_grid_leaves_a_page_and_does_not_fail_for_want_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> str:
        raise ValueError("no ink")

    folder = tmp_path / "grid"
    with monkeypatch.context() as patched:
        patched.setattr(page, "to_page", broken)
        result = grid(folder)
    assert result.exit_code == 0
    *_, said, done = result.stderr.splitlines()
    assert said == "warning: the report page could not be written: ValueError: no ink"
    assert done.startswith("DONE 4/4 cells")
    assert not (folder / "report.html").exists()
    result = grid(folder)
    *_, said, done = result.stderr.splitlines()
    assert said == f"page: {folder}/report.html"
    assert done.startswith("DONE 4/4 cells")
    html = (folder / "report.html").read_text(encoding="utf-8")
    check_is_alone(html)
    check_links(html)
    assert "cells 4 done, 0 failed" in Page(html).text


def test_making_a_page_loads_neither_torch_nor_ray_nor_pyplot(store: Store) -> None:
    """As the command makes it, with every figure of a table."""
    three_seeds(store)
    code = (
        "import sys\n"
        "from lotus_ray.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "names = ('torch', 'ray', 'matplotlib.pyplot')\n"
        "print([name for name in names if name in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "report", store.location, "--format", "html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Gold Std" in result.stdout
    assert result.stderr == "[]\n"


def test_the_files_of_the_page_are_in_the_package() -> None:
    folder = Path(page.__file__).parent
    assert {"page.html.j2", "table.html.j2", "notebook.html.j2", "page.css", "page.js"} <= {
        path.name for path in folder.iterdir()
    }
    assert "\r" not in (folder / "page.css").read_bytes().decode()
    assert json.dumps("</script") not in (folder / "page.js").read_text()
