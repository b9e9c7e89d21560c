"""Figures inside a page and as files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.report.collect import collect
from lotus_ray.report.figures import FIGURES, draw, files
from lotus_ray.report.figures.files import to_inline, write_figures
from lotus_ray.report.figures.sheet import WIDTH
from lotus_ray.store.results import Store
from tests.report.made_up import HOSTILE, commit, figure_of, group_of


@pytest.mark.parametrize("name", FIGURES)
def test_inline_figures_have_names_sizes_and_ids_of_their_own(full: Store, name: str) -> None:
    drawing = draw(name, group_of(full), full)
    assert drawing.figure is not None
    found = to_inline(drawing.figure, "t1", "A <label>")
    root = ET.fromstring(found)
    assert root.tag == "svg"
    assert root.attrib["viewBox"].startswith(f"0 0 {WIDTH:g} ")
    assert (root.attrib["role"], root.attrib["aria-label"]) == ("img", "A <label>")
    ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
    assert all(one.startswith("t1-") for one in ids)
    assert len(set(ids)) == len(ids)
    used = set(re.findall(r'#(t1-[^)"]+)', found))
    assert used
    assert used <= set(ids)
    assert "currentColor" in found
    for never in ("style=", "<style", "http", "xlink", "#000001", "font-family", "<metadata"):
        assert never not in found


def test_inline_figures_are_the_same_each_time(full: Store) -> None:
    found = {to_inline(figure_of("rf-jsd", full), "t", "l") for _ in range(2)}
    assert len(found) == 1


def test_hostile_names_are_text(store: Store) -> None:
    commit(store, HOSTILE)
    commit(store, "_hidden\x00\u202e\ud800")
    figure = figure_of("rf-jsd", store)
    inline = to_inline(figure, "t", HOSTILE)
    assert "<script" not in inline
    texts = [node.text or "" for node in ET.fromstring(inline).iter("text")]
    assert any("$x_2$" in text for text in texts)
    assert any(text.startswith("_hidden\ufffd") for text in texts)


def test_figures_are_written_as_svg_and_pdf(full: Store, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "figures"
    written = write_figures(collect(full), full, folder)
    assert sorted(written) == sorted(folder.iterdir())
    assert {path.name for path in written} == {
        f"Digits-Net-instance_10pct-{name}.{kind}" for name in FIGURES for kind in ("svg", "pdf")
    }
    for path in written:
        if path.suffix == ".svg":
            text = path.read_text()
            assert ET.fromstring(text).tag.endswith("svg")
            assert "#000001" not in text
        else:
            content = path.read_bytes()
            assert content.startswith(b"%PDF-")
            assert content.rstrip().endswith(b"%%EOF")
            assert b"CreationDate" not in content
    again = write_figures(collect(full), full, tmp_path / "again")
    for one, other in zip(written, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.fixture
def two_figures(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Two figures of each table, where a test looks at names of files alone."""
    few = {name: FIGURES[name] for name in ("rf-jsd", "time")}
    monkeypatch.setattr(files, "FIGURES", few)
    return set(few)


@pytest.mark.usefixtures("two_figures")
def test_names_of_files_are_safe_and_do_not_clash(store: Store, tmp_path: Path) -> None:
    for benchmark in ("../../etc/a b", "../../etc/a?b", "x" * 300):
        commit(store, "lotus", benchmark=benchmark)
    folder = tmp_path / "figures"
    written = write_figures(collect(store), store, folder)
    assert len(written) == 3 * 2 * 2
    assert all(path.parent == folder and len(path.name) < 200 for path in written)
    assert len({path.name.lower() for path in written}) == len(written)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", path.name) for path in written)


def test_a_long_name_of_a_table_keeps_the_names_of_figures(
    full: Store, tmp_path: Path, two_figures: set[str]
) -> None:
    long = [replace(entry, benchmark="x" * 300) for entry in collect(full)]
    written = write_figures(long, full, tmp_path)
    assert {path.name.rpartition("x")[2] for path in written} == {
        f"-{name}.{kind}" for name in two_figures for kind in ("svg", "pdf")
    }
    assert all(len(path.name) < 200 for path in written)


def test_a_folder_that_cannot_be_written_is_a_typed_error(full: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a figure cannot be written"):
        write_figures(collect(full), full, tmp_path / "file")


def test_an_empty_store_has_no_figures(store: Store, tmp_path: Path) -> None:
    assert write_figures([], store, tmp_path / "figures") == []
