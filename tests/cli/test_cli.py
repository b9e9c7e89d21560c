from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from lotus_ray import __version__
from lotus_ray.base.errors import ClusterError
from lotus_ray.base.version import VERSION
from lotus_ray.cli.main import main
from lotus_ray.data.prepared.manifest import FORMAT
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.metrics.outputs import TENSORS
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from lotus_ray.unlearning.methods import METHODS

EMBEDDED = f"digits-{FORMAT}"
DIGITS = Path(__file__).parents[2] / "jobs" / "digits.yaml"
# One epoch of each, on a network small enough to be quick.
QUICK = {
    "epochs": "1",
    "batch_size": "8",
    "resources": "{workers: 1}",
    "grid.methods": "[original, gold, {name: finetune, epochs: 2}, {name: lotus, alpha: 8}]",
    "grid.seeds": "[3407]",
    "grid.models.0.options.width": "4",
    "grid.models.0.train": "{epochs: 1, batch_size: 16}",
}
DIVERGING = {"grid.methods.2": "{name: finetune, epochs: 2, lr: 1.0e+30}"}


def run(*arguments: object) -> Result:
    """Run the command in this process; a bug is raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def options(settings: dict[str, str]) -> list[str]:
    """Write settings as options of a command."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def grid(store: Path, *arguments: str, **changes: str) -> Result:
    """Run the quick grid in this process with some settings changed."""
    settings = options({**QUICK, **changes})
    return run("grid", DIGITS, "--local", "--limit", "20", "--store", store, *settings, *arguments)


def times(store: Path) -> dict[str, int]:
    """Return when each row was written."""
    rows = store / "rows"
    return {str(path.relative_to(rows)): path.stat().st_mtime_ns for path in rows.rglob("*.json")}


def statuses(store: Path) -> dict[str, str]:
    """Return the status of the cell of each method."""
    rows = [json.loads(path.read_text())["row"] for path in sorted(store.rglob("rows/*/*.json"))]
    return {row["method"]: row["status"] for row in sorted(rows, key=lambda r: r["row_version"])}


def files(folder: Path) -> list[str]:
    """Return everything below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture(autouse=True, scope="module")
def process(no_page: None) -> Iterator[None]:
    """Give back what a command changes in its process."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the prepared digits and nothing else: their making takes a second."""
    store = tmp_path_factory.mktemp("digits")
    prepare(SOURCES["digits"], store / "data" / EMBEDDED)
    return store


@pytest.fixture
def store(digits: Path, tmp_path: Path) -> Path:
    shutil.copytree(digits, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A store with all cells of the quick grid, and what the command said."""
    store = tmp_path_factory.mktemp("finished") / "store"
    shutil.copytree(digits, store)
    return store, grid(store)


@pytest.fixture
def done(finished: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of the finished store."""
    shutil.copytree(finished[0], tmp_path / "done")
    return tmp_path / "done"


@pytest.fixture(scope="module")
def diverged(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A store whose Finetuning diverged, and what the command said."""
    store = tmp_path_factory.mktemp("diverged") / "store"
    shutil.copytree(digits, store)
    return store, grid(store, **DIVERGING)


def test_a_grid_runs_to_its_table_and_its_last_line(finished: tuple[Path, Result]) -> None:
    store, result = finished
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == f"DONE 4/4 cells, 0 failed: {store}/outcome.json"
    assert result.stderr.startswith(f"lotus-ray {VERSION}: ")
    origin = json.loads((store / "origin.json").read_text())
    assert origin == {"jobs": ["digits"], "folders": [str(store / "data" / "digits-4")]}
    lines = result.stdout.splitlines()
    assert lines[0] == "digits, ResNet18, instance_10pct_noise20pct_smoke20"
    assert [line.split("  ")[0].removesuffix(" [=]") for line in lines[3:7]] == [
        "Original",
        "Gold Std",
        "Finetuning",
        "LoTUS",
    ]
    assert "LoTUS of seed 3407: its outputs equal the original's" in lines[7:]
    assert "DONE" not in result.stdout
    assert set(statuses(store).values()) == {"ok"}


def test_a_grid_says_what_runs_and_what_is_done(finished: tuple[Path, Result]) -> None:
    said = finished[1].stderr
    for label in ("Original", "Gold Std", "Finetuning", "LoTUS"):
        assert f"{label}, digits ResNet18 seed 3407: done" in said
    assert "4/4 cells" in said


def test_status_names_every_cell_that_a_grid_planned(finished: tuple[Path, Result]) -> None:
    told = json.loads(run("status", finished[0], "--json").stdout)
    assert (told["state"], told["total"], told["done"], told["other_rows"]) == ("ended", 4, 4, 0)
    assert [cell["method"] for cell in told["cells"]] == [
        "Original",
        "Gold Std",
        "Finetuning",
        "LoTUS",
    ]
    assert all(cell["attempts"] == 1 and cell["seed"] == 3407 for cell in told["cells"])
    assert told["next"] == f"lotus-ray report {finished[0]}"


def test_status_calls_variants_as_the_report_does(done: Path) -> None:
    """Also before there is a row: one of two variants diverges, the other is planned alone."""
    methods = "{name: finetune, epochs: 2}, {name: finetune, epochs: 2, lr: 1.0e+30}"
    grid(done, **{"grid.methods": f"[original, {methods}]"})
    told = run("status", done)
    assert "  failed   Finetuning(lr=1e+30) (" in told.stdout
    entries = json.loads(run("report", done, "--format", "json").stdout)
    reported = {entry["method"] for entry in entries if entry["method"] != "LoTUS"}
    plain = json.loads(run("status", done, "--json").stdout)
    assert {cell["label"] for cell in plain["cells"]} == reported - {"Gold Std"}
    assert [cell["method"] for cell in plain["cells"]] == ["Original", *["Finetuning"] * 2]


def test_status_says_which_cells_failed(diverged: tuple[Path, Result]) -> None:
    told = run("status", diverged[0]).stdout
    assert "3 done, 1 failed of 4" in told
    assert "  failed   Finetuning (" in told
    assert told.splitlines()[-1].endswith("--retry-failed")


def test_a_grid_leaves_its_outcome(finished: tuple[Path, Result]) -> None:
    outcome = json.loads((finished[0] / "outcome.json").read_text())
    assert {name: outcome[name] for name in ("exit_code", "cells", "done", "failed", "error")} == {
        "exit_code": 0,
        "cells": 4,
        "done": 4,
        "failed": 0,
        "error": None,
    }
    cells = {cell["cell_id"]: cell["seconds"] for cell in outcome["cells_seconds"]}
    assert set(cells) == {path.parent.name for path in finished[0].rglob("rows/*/*.json")}
    assert all(seconds > 0 for seconds in cells.values())


def test_limited_rows_are_marked_smoke(finished: tuple[Path, Result]) -> None:
    rows = [json.loads(path.read_text())["row"] for path in finished[0].rglob("rows/*/*.json")]
    assert len(rows) == 4
    assert all(row["smoke"] for row in rows)


def test_the_same_command_again_runs_nothing(finished: tuple[Path, Result], done: Path) -> None:
    before, artifacts = times(done), files(done / "attempts")
    result = grid(done)
    assert result.exit_code == 0
    assert result.stdout == finished[1].stdout
    assert times(done) == before
    assert files(done / "attempts") == artifacts
    assert result.stderr.splitlines()[-1] == f"DONE 4/4 cells, 0 failed: {done}/outcome.json"
    assert "running" not in result.stderr


def test_a_changed_setting_runs_its_cell_alone(done: Path) -> None:
    before = times(done)
    result = grid(done, **{"grid.methods.3.alpha": "2"})
    assert result.exit_code == 0
    after = times(done)
    assert len(after) == 5
    assert before.items() <= after.items()
    rows = [line for line in result.stdout.splitlines() if line.endswith("  1")]
    assert sum(row.startswith("LoTUS") for row in rows) == 1


def test_force_runs_every_cell_again_and_keeps_the_old_rows(done: Path) -> None:
    before = times(done)
    assert grid(done, "--force").exit_code == 0
    after = times(done)
    assert before.items() <= after.items()
    assert sorted(set(after) - set(before)) == sorted(
        name.replace("0000.json", "0001.json") for name in before
    )


def test_force_gives_the_same_figures(done: Path) -> None:
    def figures() -> list[list[str]]:
        rows = csv.reader(io.StringIO(run("report", done, "--format", "csv").stdout))
        return [row for row in rows if "seconds" not in row[4] and row[4] != "time_min"]

    before = figures()
    grid(done, "--force")
    assert figures() == before
    assert len(before) > 20


def test_a_flipped_row_runs_again(done: Path) -> None:
    path = next(done.rglob("rows/*/*.json"))
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    result = grid(done)
    assert result.exit_code == 0
    assert (path.parent / "0001.json").exists()
    assert len(times(done)) == 5


def test_a_torn_table_of_roles_is_written_anew(done: Path) -> None:
    [table] = done.glob("roles/*.parquet")
    content = table.read_bytes()
    table.write_bytes(content[: len(content) // 2])
    [row] = [p for p in done.rglob("rows/*/*.json") if '"LoTUS"' in p.read_text()]
    row.unlink()
    assert grid(done).exit_code == 0
    assert table.read_bytes() == content
    assert set(statuses(done).values()) == {"ok"}


@pytest.mark.parametrize("damage", ["flipped", "gone"])
@pytest.mark.parametrize("name", [WEIGHTS, TENSORS])
def test_a_damaged_original_runs_again_with_what_starts_from_it(
    done: Path, damage: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its old row stays as it was, the same command trains it anew as the next row version."""
    store = Store.open(str(done))
    rows = {row.method: row for row in store.rows().values()}
    old, lotus = rows["Original"], rows["LoTUS"]
    file = done / old.artifacts[name].name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if damage == "flipped":
        file.write_bytes(content)
    assert grid(done).exit_code == 0  # nothing is missing, so nothing starts from it
    assert store.row(old.cell_id) == old
    (done / "rows" / lotus.cell_id / "0000.json").unlink()
    before = times(done)
    assert grid(done).exit_code == 0
    assert any(f"the row of cell {old.cell_id} is ignored" in m for m in caplog.messages)
    assert times(done).items() >= before.items()
    found = {row.method: row for row in store.rows().values()}
    row_versions = {method: row.row_version for method, row in found.items()}
    assert row_versions == {"Original": 1, "Gold Std": 0, "Finetuning": 0, "LoTUS": 0}
    assert found["LoTUS"].metrics == lotus.metrics
    assert found["Original"].metrics == old.metrics


def test_a_diverging_cell_is_a_row_and_the_others_are_done(diverged: tuple[Path, Result]) -> None:
    store, result = diverged
    assert result.exit_code == 4
    assert result.stderr.splitlines()[-1] == f"DONE 3/4 cells, 1 failed: {store}/outcome.json"
    assert "Finetuning, seed 3407: diverged: loss became" in result.stdout
    assert statuses(store) == {
        "Original": "ok",
        "Gold Std": "ok",
        "Finetuning": "diverged",
        "LoTUS": "ok",
    }


def test_a_failed_cell_is_left_alone_until_it_is_to_be_retried(
    diverged: tuple[Path, Result], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(diverged[0], store)
    before = times(store)
    assert grid(store, **DIVERGING).exit_code == 4
    assert times(store) == before
    result = grid(store, "--retry-failed", **DIVERGING)
    assert result.exit_code == 4
    (new,) = set(times(store)) - set(before)
    assert new.endswith("/0001.json")
    row = json.loads((store / "rows" / new).read_text())["row"]
    assert (row["method"], row["status"], row["attempts"]) == ("Finetuning", "diverged", 2)


def test_retrying_where_nothing_failed_runs_nothing(done: Path) -> None:
    before = times(done)
    assert grid(done, "--retry-failed").exit_code == 0
    assert times(done) == before


def test_json_is_json(finished: tuple[Path, Result], done: Path) -> None:
    rows = json.loads(grid(done, "--json").stdout)
    assert {row["method"] for row in rows} == {"Original", "Gold Std", "Finetuning", "LoTUS"}
    assert all(set(row["values"]) <= {"3407"} for row in rows)
    assert json.loads(run("report", done, "--format", "json").stdout) == rows


def test_a_dry_run_lists_the_cells_and_writes_nothing(folder: Path) -> None:
    result = run("grid", DIGITS, "--dry-run", *options(QUICK))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["missing"] * 4
    assert lines[4] == (
        "4 cells, 4 missing in 1 groups; a trial needs 1 × 1 CPUs, 0 GPUs; store runs/digits"
    )
    assert lines[5].startswith("to run: 4 cells, about ")
    assert lines[6] == "costs on a CPU: 4 tabled at a rough speed: no row on this device yet"
    assert lines[9].startswith("to decode: 1,797 images to 345 kB of pixels, from about ")
    assert len(lines) == 10
    assert files(folder) == []


def test_a_dry_run_learns_costs_from_rows(done: Path) -> None:
    """A second seed costs what the first took. LoTUS of three epochs has no row yet."""
    more = QUICK["grid.methods"].removesuffix("]") + ", {name: lotus, alpha: 8, epochs: 3}]"
    changes = options({**QUICK, "grid.seeds": "[3407, 1]", "grid.methods": more})
    arguments = ("--limit", "20", "--store", done, *changes, "--json")
    read = json.loads(run("grid", DIGITS, "--dry-run", *arguments).stdout)
    first, second = read["cells"][:5], read["cells"][5:]
    assert [cell["status"] for cell in first] == ["ok"] * 4 + ["missing"]
    assert [cell["source"] for cell in second] == ["learned"] * 4 + ["scaled"]
    parts = ("prepare_seconds", "unlearn_seconds", "evaluate_seconds")
    for before, after in zip(first[:4], second[:4], strict=True):
        timing = Store.open(str(done)).rows()[before["cell_id"]].timing
        assert after["seconds"] == pytest.approx(sum(timing[part] for part in parts))
    assert read["price"]["cells_by_source"] == {"learned": 4, "scaled": 2, "tabled": 0}


def test_a_dry_run_knows_what_is_done(done: Path) -> None:
    before = files(done)
    arguments = ("--limit", "20", "--store", done, *options({**QUICK, "grid.seeds": "[3407, 1]"}))
    lines = run("grid", DIGITS, "--dry-run", *arguments).stdout.splitlines()
    assert [line.split()[1] for line in lines[:8]] == ["ok"] * 4 + ["missing"] * 4
    assert lines[8].startswith("8 cells, 4 missing in 1 groups")
    assert files(done) == before


def test_a_dry_run_knows_what_failed(diverged: tuple[Path, Result]) -> None:
    def listed(*arguments: str) -> list[str]:
        result = grid(diverged[0], "--dry-run", *arguments, **DIVERGING)
        return [line.split()[1] for line in result.stdout.splitlines()[:4]]

    assert listed() == ["ok", "ok", "diverged", "ok"]
    assert listed("--retry-failed") == ["ok", "ok", "missing", "ok"]
    assert listed("--force") == ["missing"] * 4


def test_a_cell_that_diverges_in_its_last_step_has_no_figures(done: Path) -> None:
    """One step of 20 rows: its loss is that of the original, what comes after it is not."""
    step = {"batch_size": "32", "grid.methods.2": "{name: finetune, epochs: 1, lr: 1.0e+30}"}
    assert grid(done, **step).exit_code == 4
    rows = [json.loads(path.read_text())["row"] for path in done.rglob("rows/*/*.json")]
    (row,) = [row for row in rows if row["status"] != "ok"]
    assert row["method"] == "Finetuning"
    assert (row["metrics"], row["artifacts"]) == ({}, {})


def test_report_prints_the_table_of_a_store(finished: tuple[Path, Result]) -> None:
    result = run("report", finished[0])
    assert result.exit_code == 0
    assert result.stdout == finished[1].stdout


def test_report_prints_csv(finished: tuple[Path, Result]) -> None:
    rows = list(csv.DictReader(io.StringIO(run("report", finished[0], "--format", "csv").stdout)))
    assert list(rows[0]) == [
        "benchmark",
        "model",
        "setting",
        "method",
        "metric",
        "mean",
        "std",
        "n",
    ]
    gold = {row["metric"]: row["mean"] for row in rows if row["method"] == "Gold Std"}
    assert (gold["jsd"], gold["avg_gap"]) == ("0.0", "0.0")


def test_report_can_compute_metrics_again(finished: tuple[Path, Result], tmp_path: Path) -> None:
    """Rows that say 0.123 for every accuracy are reported as such, unless they are recomputed."""
    shutil.copytree(finished[0], tmp_path / "wrong")
    opened = Store.open(str(tmp_path / "wrong"))
    for row in opened.rows().values():
        files = {name: opened.artifact(row, name) for name in row.artifacts}
        wrong = {**row.metrics, "test_accuracy": 0.123}
        opened.commit(opened.begin(row.cell_id, 1, {}), replace(row, metrics=wrong), files)
    assert run("report", tmp_path / "wrong").stdout.count(" 0.123 ") == 4
    result = run("report", tmp_path / "wrong", "--recompute")
    assert result.exit_code == 0
    assert result.stdout == run("report", finished[0]).stdout


def test_report_writes_a_file(finished: tuple[Path, Result], folder: Path) -> None:
    result = run("report", finished[0], "--format", "csv", "--output", "table.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    expected = run("report", finished[0], "--format", "csv").stdout
    assert (folder / "table.csv").read_text() == expected


def test_a_report_that_cannot_be_written_says_where(
    finished: tuple[Path, Result], folder: Path
) -> None:
    parts = failed(run("report", finished[0], "--output", "none/table.csv"), 2)
    assert parts["what"] == "the report cannot be written: No such file or directory"
    assert parts["where"] == "none/table.csv"
    assert files(folder) == []


def test_report_refuses_a_format_that_there_is_not(finished: tuple[Path, Result]) -> None:
    result = run("report", finished[0], "--format", "xml")
    assert result.exit_code == 2
    assert "'xml' is not one of" in result.stderr


def test_validate_counts_the_cells() -> None:
    result = run("validate", DIGITS, "--set", "grid.seeds=[1, 2, 3]")
    assert result.exit_code == 0
    methods = yaml.safe_load(DIGITS.read_text())["grid"]["methods"]
    assert result.stdout == f"{DIGITS}: valid, {3 * len(methods)} cells\n"


def test_validate_says_that_it_counts_the_original() -> None:
    """Of a job that names a gold standard alone."""
    result = run("validate", DIGITS, "--set", "grid.methods=[gold]")
    assert result.stdout == f"{DIGITS}: valid, 2 cells\n"
    assert "note: the original is counted too" in result.stderr


def test_validate_builds_the_models() -> None:
    result = run("validate", DIGITS, "--set", "grid.models.0.options={wings: 2}")
    assert result.exit_code == 2
    assert "model resnet18_cifar cannot be built with {'wings': 2}" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("validate",),
        ("grid",),
        ("grid", "--dry-run"),
        ("forget", "--output", "out"),
    ],
    ids=" ".join,
)
def test_offline_says_which_weights_are_not_here_before_anything_runs(
    command: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(folder / "cache"))
    network = {"model.name": "torchvision/resnet18", "model.pretrained": "IMAGENET1K_V1"}
    small = [*options(network), "--set", "model.options={}"]
    name, *rest = command
    local = ["--local"] if name == "grid" and "--dry-run" not in rest else []
    result = run(name, DIGITS, "--offline", *rest, *local, *small)
    assert result.exit_code == 2
    assert "the pretrained weights of torchvision/resnet18 are not here" in result.stderr
    assert "resnet18-f37072fd.pth" in result.stderr
    assert f"where: {folder / 'cache' / 'hub' / 'checkpoints'}" in result.stderr
    assert "--set model.initial_checkpoint=FILE" in result.stderr
    assert [name for name in files(folder) if name != "out.key"] == []
    assert run("validate", DIGITS, *small).exit_code == 0  # it may be downloaded


def test_validate_prints_the_schema() -> None:
    result = run("validate", "--schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert schema["additionalProperties"] is False
    keys = [*schema["properties"].items(), *schema["$defs"]["ModelJob"]["properties"].items()]
    described = {name for name, value in keys if value.get("description")}
    assert {"offline", "pretrained", "initial_checkpoint"} <= described


@pytest.mark.parametrize("kind", ["methods", "datasets", "metrics", "jobs"])
def test_list_says_the_same_as_text_and_as_json(kind: str) -> None:
    items = json.loads(run("list", kind, "--json").stdout)
    names = [item["name"] for item in items]
    assert len(names) == len(set(names)) > 0
    lines = run("list", kind).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == names


def test_list_names_every_method_with_its_hyper_parameters() -> None:
    items = {item["name"]: item for item in json.loads(run("list", "methods", "--json").stdout)}
    assert set(items) == set(METHODS)
    assert items["lotus"]["label"] == "LoTUS"
    assert "alpha=2.0" in items["lotus"]["about"]


def test_list_shows_families_of_models_first_and_filters_names() -> None:
    items = json.loads(run("list", "models", "--json").stdout)
    names = [item["name"] for item in items]
    assert len(names) == len(set(names)) > 1000
    families = dict.fromkeys(item["family"] for item in items)
    lines = run("list", "models").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(families)
    assert sum(int(line.split()[1]) for line in lines) == len(names)
    lite = run("list", "models", "efficientnet_lite*").stdout.splitlines()
    assert lite[:2] == ["efficientnet:", "  efficientnet_lite0"]
    for kind, wanted in (("models", "Lite0"), ("methods", "SCRUB")):
        found = json.loads(run("list", kind, wanted, "--json").stdout)
        assert 0 < len(found) < 5
        assert all(wanted.lower() in item["name"] for item in found)
    nothing = run("list", "models", "resnet1888")
    assert (nothing.exit_code, "no name of models holds" in nothing.stderr) == (2, True)


def test_list_of_something_else_is_refused() -> None:
    assert run("list", "planets").exit_code == 2


def test_prepare_and_prepare_again(folder: Path) -> None:
    result = run("prepare", "digits", "data/digits")
    assert result.exit_code == 0
    assert result.stdout == (
        "digits: 1435 train (136 to 154 per class), 362 heldout (26 to 45 per class) images "
        "in 2 shards: data/digits\n"
    )
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = run("prepare", "digits", "data/digits")
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_prepare_made_can_be_the_data_of_a_job(folder: Path, digits: Path) -> None:
    data = {"name": "D", "manifest": str(digits / "data" / "digits"), "img_size": 8}
    dataset = json.dumps({**data, "forget": {"fraction": 0.1}})
    result = run("validate", DIGITS, "--set", f"grid.datasets.0={dataset}")
    assert result.exit_code == 0


def failed(result: Result, code: int) -> dict[str, str]:
    """Check that a command failed with four parts and no traceback; return the parts."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    stages = (f"lotus-ray {VERSION}: ", "reading the data, ")  # what `grid` says before
    first, *rest = [line for line in result.stderr.splitlines() if not line.startswith(stages)]
    assert first.startswith("error: ")
    parts = dict(line.strip().split(": ", 1) for line in rest)
    return {"what": first.removeprefix("error: "), **parts}


def test_a_misspelt_key_is_explained_in_four_parts(folder: Path) -> None:
    (folder / "job.yaml").write_text(DIGITS.read_text() + "precison: fp64\n")
    line = len(DIGITS.read_text().splitlines()) + 1
    for command in (("grid", "job.yaml"), ("validate", "job.yaml")):
        assert failed(run(*command), 2) == {
            "what": "unknown key 'precison'",
            "where": f"job.yaml:{line} precison",
            "nearest": "precision",
            "next": "lotus-ray validate job.yaml",
        }
    assert files(folder) == ["job.yaml"]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"grid.methods.2": "finetun"}, "unknown method 'finetun'"),
        ({"grid.methods.10.alfa": "8"}, "unknown hyper-parameter 'alfa' of lotus"),
        ({"grid.models.0.name": "resnet18_cifra"}, "unknown model 'resnet18_cifra'"),
        ({"grid.datasets.0.source": "digit"}, "unknown source 'digit'"),
        ({"grid.seeds.9": "1"}, "'grid.seeds.9' does not exist in "),
    ],
)
def test_a_bad_job_exits_with_2(settings: dict[str, str], what: str, folder: Path) -> None:
    parts = failed(run("grid", DIGITS, "--local", *options(settings)), 2)
    assert parts["what"].startswith(what)
    assert parts["where"].startswith("--set grid.")
    assert files(folder) == []


def test_a_job_file_that_is_not_there_exits_with_2() -> None:
    parts = failed(run("grid", "nothing.yaml"), 2)
    assert parts["where"] == "nothing.yaml"
    assert parts["next"] == "ls ."


@pytest.mark.parametrize(
    "arguments",
    [("grid",), ("grid", "x.yaml", "--limit", "0"), ("grid", "x.yaml", "--fast"), ("gird",)],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_missing_data_exit_with_3(folder: Path) -> None:
    data = "{name: D, manifest: nowhere, img_size: 8, forget: {fraction: 0.1}}"
    parts = failed(run("grid", DIGITS, "--local", "--set", f"grid.datasets.0={data}"), 3)
    assert parts["what"] == "the data of D are not here"
    assert parts["where"] == "nowhere"
    assert parts["next"] == "lotus-ray prepare SOURCE nowhere"
    assert files(folder) == []


def test_a_job_without_its_data_is_valid_as_far_as_one_can_see(folder: Path) -> None:
    data = (
        "{name: D, source: cifar10, manifest: nowhere, num_classes: 10, img_size: 8, "
        "forget: {fraction: 0.1}}"
    )
    valid = run("validate", DIGITS, "--set", f"grid.datasets.0={data}")
    assert valid.exit_code == 0
    assert valid.stdout == f"{DIGITS}: valid, 11 cells\n"
    assert valid.stderr == (
        "not checked: the data of D are not here: nowhere; "
        "lotus-ray prepare cifar10 nowhere --root FOLDER\n"
    )
    dry = run("grid", DIGITS, "--dry-run", "--set", f"grid.datasets.0={data}")
    assert dry.exit_code == 0
    lines = dry.stdout.splitlines()
    assert lines[0].split() == (
        ["?", "no", "data", "Original", "D", "ResNet18", "seed", "3407,", "instance_10pct"]
    )
    assert lines[-1].startswith("11 cells, 11 without data, 0 missing in 0 groups")
    assert files(folder) == []


def test_a_folder_without_a_manifest_is_refused(folder: Path) -> None:
    Path("empty").mkdir()
    data = "{name: D, manifest: empty, img_size: 8, forget: {fraction: 0.1}}"
    for arguments in (("validate", DIGITS), ("grid", DIGITS, "--dry-run")):
        parts = failed(run(*arguments, "--set", f"grid.datasets.0={data}"), 3)
        assert parts["what"] == "no prepared data set here: manifest.json is missing"


def test_changed_data_exit_with_3(store: Path) -> None:
    shard = next(store.rglob("*.parquet"))
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    parts = failed(grid(store), 3)
    assert parts["what"].startswith("a shard changed since it was prepared")
    assert parts["where"] == str(shard)
    assert not (store / "rows").exists()


def test_prepare_over_something_else_exits_with_3(folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")
    parts = failed(run("prepare", "digits", "."), 3)
    assert parts["what"] == "the destination exists and holds no manifest"
    parts = failed(run("prepare", "digits", "thesis.tex"), 3)
    assert parts["where"] == "thesis.tex"
    assert files(folder) == ["thesis.tex"]


def test_prepare_of_an_unknown_source_exits_with_2(folder: Path) -> None:
    parts = failed(run("prepare", "digit", "data"), 2)
    assert (parts["nearest"], parts["next"]) == ("digits", "lotus-ray list datasets")
    assert files(folder) == []


def test_a_store_that_cannot_be_exits_with_5(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    for uri, what in (
        ("file", "the store is a file, not a folder"),
        ("file/store", "the store cannot be written: Not a directory"),
    ):
        parts = failed(run("grid", DIGITS, "--local", "--store", uri), 5)
        assert parts["what"] == what
        assert parts["where"].startswith(uri) or uri in parts["where"]
    assert files(folder) == ["file"]


def test_a_report_of_no_store_exits_with_5(folder: Path) -> None:
    parts = failed(run("report", "runs/none"), 5)
    assert parts["what"] == "there is no metric store here"
    assert parts["next"] == "lotus-ray grid JOB.yaml --store runs/none"
    assert files(folder) == []


def test_a_report_of_a_changed_artifact_exits_with_5(done: Path) -> None:
    """Where it is read: what the grid's own report compared is kept."""
    path = next(done.rglob("tensors.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    parts = failed(run("report", done, "--recompute"), 5)
    assert parts["what"] == "an artifact of a committed row changed since it was written"
    assert parts["where"].endswith("tensors.safetensors")


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(main, ["--debug", "report", "runs/none"])
    assert result.exit_code == 5
    assert "Traceback" in result.stderr
    assert "StoreError" in result.stderr


def test_the_version_and_the_help_are_there() -> None:
    assert __version__ in run("--version").stdout
    said = run("-h").stdout
    for command in ("grid", "report", "validate", "prepare", "list"):
        assert f"\n  {command} " in said


@pytest.mark.parametrize(
    ("raised", "state", "recorded", "exits"),
    [
        (KeyboardInterrupt(), "interrupted", None, 130),
        (ClusterError("Ray is gone"), "ended", 6, 6),
    ],
)
def test_a_command_that_ends_early_says_so_in_its_outcome(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    state: str,
    recorded: int | None,
    exits: int,
) -> None:
    def run_cells(*_: object) -> None:
        outcome = json.loads((tmp_path / "outcome.json").read_text())
        assert (outcome["state"], outcome["exit_code"]) == ("running", None)
        raise raised

    monkeypatch.setattr("lotus_ray.grid.local.run_cells", run_cells)
    result = run("grid", DIGITS, "--local", "--store", tmp_path, *options(QUICK))
    assert result.exit_code == exits
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"]) == (state, recorded)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), BrokenPipeError()])
def test_a_grid_whose_report_is_stopped_has_ended(
    done: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    """Its cells have. Else `status` calls it running until its last beat is old."""

    def stopped(*_: object) -> None:
        assert json.loads((done / "outcome.json").read_text())["state"] == "running"
        raise raised

    monkeypatch.setattr("lotus_ray.cli.grid_output.collect", stopped)
    arguments = [*("grid", DIGITS, "--local", "--limit", "20", "--store", done), *options(QUICK)]
    CliRunner().invoke(main, [str(argument) for argument in arguments])
    outcome = json.loads((done / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"], outcome["done"]) == ("ended", 0, 4)
