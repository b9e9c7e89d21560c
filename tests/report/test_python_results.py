"""A store as a Python session sees it."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import lotus_ray
from lotus_ray.base.errors import JobError, StoreError
from lotus_ray.report.results import Results
from lotus_ray.store.results import Store
from tests.report.made_up import HOSTILE
from tests.stores import commit


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two seeds of LoTUS, of which one failed with a hostile text; no page yet."""
    folder = tmp_path_factory.mktemp("results") / "store"
    store = Store.open(str(folder))
    store.check_writable()
    for method in ("original", "gold", "lotus"):
        commit(store, method, 1)
    commit(store, "original", 2)
    commit(store, "lotus", 2, error=f"no room {HOSTILE}")
    return lotus_ray.open_store(folder)


def test_rows_can_be_iterated(results: Results) -> None:
    assert [(row.method, row.seed) for row in results] == [
        ("Gold Std", 1),
        ("LoTUS", 1),
        ("Original", 1),
        ("LoTUS", 2),
        ("Original", 2),
    ]
    assert len(results) == 5
    assert repr(results).endswith("store, 1 failed")


def test_a_table_is_text_in_a_terminal_and_html_in_a_notebook(results: Results) -> None:
    table = results.table()
    assert repr(table).splitlines()[1].startswith("Method")
    assert "no room" in repr(table)
    html = table._repr_html_()
    assert html.count("<tr class=") == 3
    assert "no room" in html
    assert HOSTILE not in html


def test_a_table_keeps_the_metrics_of_its_plugins_when_another_store_is_read(
    results: Results,
) -> None:
    own = {"name": "odd", "heading": "Odd", "about": "", "better": "", "form": ".3f"}
    table = results.table()
    entry = next(entry for entry in table.entries if entry.method == "LoTUS")
    entry.rows[1] = replace(entry.rows[1], spec={**entry.rows[1].spec, "own_metrics": [own]})
    entry.values["odd"] = {1: 0.25}
    results.table()  # of a store without such metrics
    assert "Odd" in str(table)
    assert "0.250" in str(table)
    results.table()
    assert "0.250" in table._repr_html_()
    results.table()


def test_a_data_frame_has_a_line_for_each_cell(results: Results) -> None:
    frame = results.to_pandas().set_index(["method", "seed"])
    assert len(frame) == 5
    assert frame.loc[("LoTUS", 1), "forget_acc"] == 0.5
    assert frame.loc[("LoTUS", 1), "jsd"] == 0  # beside the gold standard, as in the report
    failed = frame.loc[("LoTUS", 2)]
    assert failed.status == "diverged"
    assert failed.error.startswith("no room")
    assert math.isnan(failed.forget_acc)


def test_without_pandas_an_error_says_what_to_install(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(lotus_ray.LotusRayError, match="pip install pandas"):
        results.to_pandas()


def test_a_page_is_written_and_shown(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotus_ray.report.page.to_page", lambda entries, store: '<p class="a">')
    page = results.page()
    assert Path(page.address).read_text() == '<p class="a">'
    assert Path(page.address).name == "report.html"
    assert 'srcdoc="&lt;p class=&quot;a&quot;&gt;"' in page._repr_html_()
    assert results.page(tmp_path / "own.html").address == str(tmp_path / "own.html")
    assert (tmp_path / "own.html").exists()
    with pytest.raises(JobError, match="cannot be written"):
        results.page(tmp_path / "no folder" / "own.html")


def test_a_folder_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no metric store"):
        lotus_ray.open_store(tmp_path)
