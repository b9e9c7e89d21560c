from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lotus_ray.cli.export import command as export_
from lotus_ray.cli.main import main
from lotus_ray.report.export import TRACKERS
from lotus_ray.report.export.runs import CellRun, Exported
from lotus_ray.store.results import Store
from tests.stores import commit


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a store of one cell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store.open("store")
    store.check_writable()
    commit(store, "lotus")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[CellRun], str]]:
    """What MLflow's tracker is asked for, which then does nothing."""
    calls: list[tuple[list[CellRun], str]] = []

    def export(runs: list[CellRun], place: str) -> Exported:
        calls.append((runs, place))
        return Exported(runs=Counter(new=1), where="there")

    monkeypatch.setitem(TRACKERS, "mlflow", export)
    return calls


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["export", *arguments])


def test_the_command_knows_every_tracker() -> None:
    (kinds,) = [p.type for p in export_.params if p.name == "tracker"]
    assert isinstance(kinds, click.Choice)
    assert list(kinds.choices) == list(TRACKERS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_a_folder(folder: Path) -> None:
    result = run("store", "--to", "tensorboard", "--output", "logs")
    assert (result.exit_code, result.stdout) == (0, "1 runs: 1 new: logs\n")
    assert len(list(folder.rglob("logs/**/*tfevents*"))) == 1


def test_mlflow_gets_its_uri(
    asked: list[tuple[list[CellRun], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://of-the-environment")
    assert run("store", "--to", "mlflow").stdout == "1 runs: 1 new: there\n"
    run("store", "--to", "mlflow", "--uri", "sqlite:///runs.db")
    assert [place for _, place in asked] == ["http://of-the-environment", "sqlite:///runs.db"]
    assert [run.method for run in asked[0][0]] == ["LoTUS"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "Missing option '--to'"),
        (("--to", "wandb"), "is not one of 'mlflow', 'tensorboard'"),
        (("--to", "mlflow"), "--to mlflow needs --uri sqlite:///runs.db"),
        (("--to", "tensorboard"), "--to tensorboard needs --output FOLDER"),
        (
            ("--to", "mlflow", "--uri", "sqlite:///x", "--output", "x"),
            "--to mlflow takes --uri, not --output",
        ),
        (
            ("--to", "tensorboard", "--output", "x", "--uri", "y"),
            "--to tensorboard takes --output, not --uri",
        ),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(
    arguments: tuple[str, ...], what: str, folder: Path
) -> None:
    result = run("store", *arguments)
    assert result.exit_code == 2
    assert what in result.stderr
    assert [path.name for path in folder.iterdir()] == ["store"]


def test_an_export_of_no_store_exits_with_5(folder: Path) -> None:
    result = run("runs/none", "--to", "tensorboard", "--output", "logs")
    assert result.exit_code == 5
    assert "there is no metric store here" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["store"]
