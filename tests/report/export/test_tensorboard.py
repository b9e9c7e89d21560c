from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lotus_ray.base.errors import JobError
from lotus_ray.report.export.runs import CellRun, runs_of
from lotus_ray.report.export.tensorboard import export
from lotus_ray.store.results import Store
from tests.stores import FIRST, LAST, commit

# TensorBoard's reader warns of its own future; the writer is not its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
AT = "2026-01-02T00:00:00+00:00"  # 1767312000 s since 1970
PHASES = [{"loss": 0.5, "tau": 1.25, "steps": 2}, {"loss": None, "tau": 1.5, "steps": 0}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store.open(str(tmp_path / "store"))
    opened.check_writable()
    commit(opened, "original", committed_at=AT)
    commit(opened, "gold", probs=FIRST, committed_at=AT)
    commit(opened, "lotus", probs=LAST, phases=PHASES, committed_at=AT)
    return opened


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "tb" / "logs"


def events(folder: Path) -> Any:
    """Return what TensorBoard's own reader finds in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """Return the steps and values of a scalar."""
    return [(event.step, event.value) for event in events(folder).Scalars(name)]


def text(folder: Path, name: str) -> str:
    """Return a text."""
    (event,) = events(folder).Tensors(f"{name}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


def hparams(folder: Path) -> dict[str, object]:
    """Return the settings that TensorBoard's hparams page reads."""
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    accumulator = events(folder)
    tags = accumulator.PluginTagToContent("hparams")
    assert "_hparams_/experiment" not in tags  # it would hide what other runs set
    found = parse_session_start_info_plugin_data(tags["_hparams_/session_start_info"]).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def files(folder: Path) -> list[str]:
    """Return the files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def lotus(store: Store) -> CellRun:
    """Return the run of LoTUS."""
    (found,) = [run for run in runs_of(store) if run.method == "LoTUS"]
    return found


@pytest.fixture
def only(store: Store) -> CellRun:
    return lotus(store)


def test_a_folder_for_each_cell(store: Store, output: Path) -> None:
    assert str(export(runs_of(store), str(output))) == f"3 runs: 3 new: {output}"
    cells = {run.method: run.cell_id for run in runs_of(store)}
    assert files(output) == [
        f"Digits/Net/instance_10pct/{method}/seed-1/"
        f"events.out.tfevents.1767312000.{cells[method]}.lotus-ray"
        for method in ("Gold Std", "LoTUS", "Original")
    ]


def test_a_run_reads_back_as_it_was_written(store: Store, output: Path) -> None:
    export(runs_of(store), str(output))
    folder, run = output / "Digits/Net/instance_10pct/LoTUS/seed-1", lotus(store)
    assert scalars(folder, "phase/tau") == [(0, 1.25), (1, 1.5)]
    assert scalars(folder, "phase/loss") == [(0, 0.5)]
    for name, value in run.metrics.items():
        assert scalars(folder, f"final/{name}") == [(0, pytest.approx(value))]
    assert "jsd" in run.metrics
    assert {e.wall_time for e in events(folder).Scalars("phase/tau")} == {1767312000}
    settings = hparams(folder)
    assert settings["method.name"] == "lotus"
    assert settings["batch_size"] == 8
    assert settings["seed"] == 1
    assert "| method.name | lotus |" in text(folder, "settings")
    assert "failure/text_summary" not in events(folder).Tags()["tensors"]


def test_a_failed_cell_tells_its_failure(store: Store, output: Path) -> None:
    commit(store, "finetune", error="loss became nan\n<b>at</b> s3://k:pa55@b", committed_at=AT)
    export(runs_of(store), str(output))
    folder = output / "Digits/Net/instance_10pct/Finetuning/seed-1"
    assert text(folder, "failure") == (
        "    diverged: Diverged: loss became nan\n    <b>at</b> s3://***@b"
    )
    assert "pa55" not in repr(events(folder).Tensors("settings/text_summary"))


def test_the_same_store_again_replaces_its_files(store: Store, output: Path) -> None:
    export(runs_of(store), str(output))
    before = files(output)
    assert str(export(runs_of(store), str(output))) == f"3 runs: 3 replaced: {output}"
    assert files(output) == before
    folder = output / "Digits/Net/instance_10pct/LoTUS/seed-1"
    assert scalars(folder, "phase/tau") == [(0, 1.25), (1, 1.5)]


def test_a_new_row_version_takes_the_place_of_the_old_one(store: Store, output: Path) -> None:
    commit(store, "lotus", 2, error="loss became nan", committed_at=AT)
    export(runs_of(store), str(output))
    later = AT.replace("01-02", "01-03")
    commit(store, "original", 2, committed_at=AT)
    commit(store, "lotus", 2, row_version=1, phases=PHASES, committed_at=later)
    export(runs_of(store), str(output))
    folder = output / "Digits/Net/instance_10pct/LoTUS/seed-2"
    assert len(files(folder)) == 1
    assert scalars(folder, "phase/tau") == [(0, 1.25), (1, 1.5)]
    assert "failure/text_summary" not in events(folder).Tags()["tensors"]


def test_a_cell_that_is_called_differently_now_moves(store: Store, output: Path) -> None:
    """A second variant tells the first one by its setting; what others left there stays."""
    commit(store, "scrub", params={"alpha": 4.0}, committed_at=AT)
    export(runs_of(store), str(output))
    folder = output / "Digits/Net/instance_10pct"
    assert "scrub" in {path.name.lower() for path in folder.iterdir()}
    theirs = folder / "Original/notes.txt"
    theirs.write_text("mine")
    commit(store, "scrub", params={"alpha": 8.0}, committed_at=AT)
    export(runs_of(store), str(output))
    names = {path.name for path in folder.iterdir()}
    assert {"scrub(alpha=4.0)", "scrub(alpha=8.0)"} < {name.lower() for name in names}
    assert "scrub" not in {name.lower() for name in names}
    assert theirs.read_text() == "mine"


def test_cells_of_one_name_are_kept_apart(only: CellRun, output: Path) -> None:
    """Within a store, where names differ in what a path cannot hold, and between stores."""
    other = replace(only, method="LoTUS/", cell_id="b" * 20)
    export([replace(only, method="LoTUS?"), other], str(output))
    third = replace(only, method="LoTUS*", cell_id="c" * 20)
    for _ in range(2):
        export([third], str(output))
    folder = output / "Digits/Net/instance_10pct/LoTUS_"
    assert sorted(path.name for path in folder.iterdir()) == [
        "seed-1",
        f"seed-1-{'b' * 20}",
        f"seed-1-{'c' * 20}",
    ]
    assert all(len(files(path)) == 1 for path in folder.iterdir())


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "..", ".", "", "<script>", "a/../../b", "x" * 400, "é" * 400, "a\0b", ".5"],
)
def test_no_name_leaves_the_folder(name: str, only: CellRun, output: Path) -> None:
    run = replace(only, benchmark=name, model=name, setting=name, method=name, cell_id=f"{name}.7")
    for outcome in ("1 new", "1 replaced"):
        assert outcome in str(export([run], str(output)))
    (path,) = files(output.parent)
    parts = path.split("/")
    assert (parts[0], len(parts), parts[-2]) == ("logs", 7, "seed-1")
    assert not any(part.startswith(".") or "<" in part for part in parts)


def test_settings_are_no_markup(only: CellRun, output: Path) -> None:
    run = replace(only, params={"a|b": "<b>*x*</b>\n| y |"}, tags={})
    export([run], str(output))
    said = text(output / "Digits/Net/instance_10pct/LoTUS/seed-1", "settings")
    assert r"| a\|b | \<b\>\*x\*\</b\> \| y \| |" in said


def test_a_folder_that_cannot_be_written_is_one_error(only: CellRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JobError) as caught:
        export([only], str(tmp_path / "file" / "logs"))
    assert caught.value.what == "the runs cannot be written: Not a directory"
    assert caught.value.exit_code == 2
