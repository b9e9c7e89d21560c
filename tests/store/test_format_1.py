"""Stores that the version before wrote (format 1): they are read, reported and resumed.

`tests/fixtures/job.yaml` says how they were made, and `expected/` holds what that version printed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotus_ray.base.errors import StoreError
from lotus_ray.cli.main import main
from lotus_ray.store.results import Store
from lotus_ray.store.row import FORMAT
from lotus_ray.store.sealed import sealed

FIXTURES = Path(__file__).parents[1] / "fixtures"
TIMES = ("begun_seconds_ago", "sign_of_life_seconds_ago")  # since then


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both stores, in which the command runs."""
    shutil.copytree(FIXTURES, tmp_path / "fixtures")
    monkeypatch.chdir(tmp_path / "fixtures")
    return tmp_path / "fixtures"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (0, 4, 75), result.output
    return result.stdout


@pytest.mark.parametrize(
    ("form", "suffix"),
    [("table", "txt"), ("markdown", "md"), ("latex", "tex"), ("csv", "csv"), ("json", "json")],
)
def test_a_report_is_the_same_byte_for_byte(form: str, suffix: str, folder: Path) -> None:
    expected = (folder / "expected" / f"report.{suffix}").read_bytes()
    assert run("report", "store-format-1", "--format", form).encode() == expected


@pytest.mark.parametrize(
    ("store", "file"), [("store-format-1", "status"), ("store-format-1-half", "status-half")]
)
def test_a_status_is_the_same(store: str, file: str, folder: Path) -> None:
    """But for the place of a cell, which is younger."""
    expected = json.loads((folder / "expected" / f"{file}.json").read_text())
    status = json.loads(run("status", store, "--json"))
    assert {cell.pop("place") for cell in status["cells"]} == {""}
    assert status.keys() == expected.keys()
    for name in expected.keys() - {*TIMES}:
        assert status[name] == expected[name], name


def test_every_row_is_read(folder: Path) -> None:
    """A cell that diverged was tried again: its row of version 1 is the visible one."""
    rows = Store.open(str(folder / "store-format-1")).rows().values()
    failed = [row for row in rows if not row.is_ok]
    assert len(rows) == 12
    assert sorted(row.row_version for row in failed) == [0, 1]
    assert all(row.error is not None and row.error.type == "Diverged" for row in failed)
    assert all(row.extra == {} for row in rows)


def test_a_half_finished_store_is_resumed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed rows stay as they are; the cell that was cut off goes on from its checkpoint.

    Only the versions that wrote a checkpoint use it. Here this torch passes for the one that did.
    """
    (checkpoint,) = folder.glob("store-format-1-half/borders/*/*.pt")
    versions, _, _ = checkpoint.read_bytes().split(b"\n")[0].decode().rpartition(", ")
    monkeypatch.setattr("lotus_ray.trial.checkpoints._VERSIONS", versions)
    before = {path: path.read_bytes() for path in folder.glob("store-format-1-half/rows/*/*")}
    options = ("--set", "grid.seeds=[1]", "--store", "store-format-1-half")
    run("grid", "job.yaml", "--local", "--limit", "24", *options)
    assert len(before) == 2
    assert all(path.read_bytes() == content for path, content in before.items())
    half = Store.open("store-format-1-half").rows()
    whole = Store.open("store-format-1").rows()
    assert len(half) == 6
    assert [row.resumed_at_phase for row in half.values() if row.resumed_at_phase] == [2]
    # SSD and LoTUS have another version since then, and so other cells.
    alike = half.keys() & whole.keys()
    assert {half[cell_id].method for cell_id in alike} == {"Original", "Gold Std", "Finetuning"}
    assert len(alike) == 4
    for cell_id in alike:
        assert half[cell_id].metrics == whole[cell_id].metrics
        assert half[cell_id].status == whole[cell_id].status


def test_a_row_of_a_newer_format_is_refused(folder: Path) -> None:
    store = Store.open(str(folder / "store-format-1"))
    name = next(iter(store.objects.names("rows/")))
    body = {**json.loads(store.objects.read(name))["row"], "format": FORMAT + 1}
    store.objects.replace(name, sealed(body))
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}") as raised:
        store.rows()
    assert raised.value.next_command == "pip install --upgrade lotus-ray"
    assert raised.value.where.endswith(name)
