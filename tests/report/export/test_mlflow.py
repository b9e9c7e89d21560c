from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lotus_ray import __version__
from lotus_ray.base.errors import JobError, TrackerError
from lotus_ray.report.export.mlflow import _exported_runs, export
from lotus_ray.report.export.runs import runs_of
from lotus_ray.store.results import Store
from tests.stores import FIRST, LAST, commit

# MLflow and what it stands on warn of their own future when they are imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
AT = "2026-01-02T00:00:00+00:00"  # 1767312000 s since 1970
EXPERIMENT = "lotus-ray/Digits/Net/instance_10pct"
COMMAND = """
import pathlib, socket
def refuse(*address, **options):
    pathlib.Path("called").write_text(repr(address))
    raise OSError
socket.socket.connect = socket.getaddrinfo = refuse
from lotus_ray.cli.main import main
main()
"""
PHASES = [{"loss": 0.5, "tau": 1.25, "steps": 2}, {"loss": None, "tau": 1.5, "steps": 0}]


def client_of(uri: str) -> Any:
    """Return MLflow's own client."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def found(uri: str, experiment: str = EXPERIMENT) -> dict[str, Any]:
    """Return the runs of an experiment by name; two of one name fail."""
    client = client_of(uri)
    place = client.get_experiment_by_name(experiment)
    runs = client.search_runs([place.experiment_id]) if place else []
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs)
    return by_name


def a_store(folder: Path) -> Store:
    """Return a store of six cells, one of them failed."""
    store = Store.open(str(folder / "store"))
    store.check_writable()
    for seed in (1, 2):
        commit(store, "original", seed, committed_at=AT)
    commit(store, "gold", probs=FIRST, committed_at=AT)
    facts = {
        "resources": {"device": "H100", "device_type": "cuda", "workers": 2},
        "versions": {"torch": "2.14.1"},
        "counters": {"student_forwards": 7},
    }
    commit(store, "lotus", probs=LAST, phases=PHASES, committed_at=AT, **facts)
    commit(store, "lotus", 2, error="loss became nan\nof s3://k:pa55@b", committed_at=AT)
    commit(store, "finetune", setting="class 3", committed_at=AT)
    return store


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A store and the database it was exported to, by the command: the tables take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    store, uri = a_store(folder), f"sqlite:///{folder}/runs.db"
    (folder / "work").mkdir()
    arguments = ["export", str(folder / "store"), "--to", "mlflow", "--uri", uri]
    # With these MLflow would keep quiet without being asked to.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTEST_CURRENT_TEST", "CI")}
    paths = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder / "work",
        env={**environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"6 runs: 6 new: {uri}\n"
    assert list((folder / "work").iterdir()) == []  # no mlruns, no call
    return store, uri


@pytest.fixture
def database(exported: tuple[Store, str], tmp_path: Path) -> str:
    """A copy of the exported database."""
    content = Path(exported[1].removeprefix("sqlite:///")).read_bytes()
    (tmp_path / "copy.db").write_bytes(content)
    return f"sqlite:///{tmp_path}/copy.db"


def test_an_experiment_for_each_setting_and_a_run_for_each_cell(
    exported: tuple[Store, str],
) -> None:
    _, uri = exported
    names = {experiment.name for experiment in client_of(uri).search_experiments()}
    assert names == {"Default", EXPERIMENT, "lotus-ray/Digits/Net/class 3"}
    assert set(found(uri)) == {
        "Original, seed 1",
        "Original, seed 2",
        "Gold Std, seed 1",
        "LoTUS, seed 1",
        "LoTUS, seed 2",
    }


def test_a_run_reads_back_as_it_was_written(exported: tuple[Store, str]) -> None:
    store, uri = exported
    run = found(uri)["LoTUS, seed 1"]
    (cell,) = [cell for cell in runs_of(store) if cell.name == "LoTUS, seed 1"]
    assert (run.info.status, run.info.start_time, run.info.end_time) == (
        "FINISHED",
        1767311937000,
        1767312000000,
    )
    assert run.data.params["method.name"] == "lotus"
    assert run.data.params["batch_size"] == "8"
    assert set(run.data.params) == set(cell.params)
    expected = {
        "cell_id": cell.cell_id,
        "row_version": "0",
        "generation": "0",
        "status": "ok",
        "method": "LoTUS",
        "seed": "1",
        "attempts": "1",
        "smoke": "false",
        "device": "H100",
        "workers": "2",
        "versions.torch": "2.14.1",
        "exported_by": f"lotus-ray {__version__}",
    }
    assert expected.items() <= run.data.tags.items()
    phases = {"phase/loss": 0.5, "phase/tau": 1.5, "phase/steps": 0.0}
    assert run.data.metrics == {**cell.metrics, **phases}
    assert {"jsd", "avg_gap", "counters/student_forwards"} <= set(run.data.metrics)


def test_each_phase_is_a_step(exported: tuple[Store, str]) -> None:
    """The second phase of PHASES has no loss."""
    uri = exported[1]
    run_id = found(uri)["LoTUS, seed 1"].info.run_id
    history = {
        name: [(m.step, m.value) for m in client_of(uri).get_metric_history(run_id, name)]
        for name in ("phase/tau", "phase/loss")
    }
    assert history == {"phase/tau": [(0, 1.25), (1, 1.5)], "phase/loss": [(0, 0.5)]}


def test_a_failed_cell_is_a_failed_run_with_its_error(exported: tuple[Store, str]) -> None:
    run = found(exported[1])["LoTUS, seed 2"]
    assert run.info.status == "FAILED"
    assert run.data.metrics == {}
    assert run.data.tags["status"] == "diverged"
    assert run.data.tags["error"] == "diverged: Diverged: loss became nan"
    assert b"pa55" not in Path(exported[1].removeprefix("sqlite:///")).read_bytes()


def test_the_same_store_again_changes_nothing(
    exported: tuple[Store, str], database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    environment = dict(os.environ)
    done = export(runs_of(exported[0]), database)
    assert str(done) == f"6 runs: 6 unchanged: {database}"
    assert len(found(database)) == 5
    assert list((tmp_path / "work").iterdir()) == []
    assert dict(os.environ) == environment


def test_a_new_row_version_is_a_new_run_and_the_old_one_says_so(
    database: str, tmp_path: Path
) -> None:
    store = a_store(tmp_path)
    cell_id = commit(store, "lotus", 2, row_version=1, committed_at=AT)
    done = export(runs_of(store), database)
    assert (done.runs["new"], done.runs["unchanged"]) == (1, 5)
    client = client_of(database)
    (place,) = [e for e in client.search_experiments() if e.name == EXPERIMENT]
    runs = client.search_runs([place.experiment_id], f"tags.cell_id = '{cell_id}'")
    assert {
        (run.data.tags["generation"], run.info.status, run.data.tags.get("superseded_by"))
        for run in runs
    } == {("0", "FAILED", "1"), ("1", "FINISHED", None)}


def test_what_a_later_gold_standard_changes_is_brought_up_to_date(
    exported: tuple[Store, str], database: str
) -> None:
    runs = runs_of(exported[0])
    changed = [
        replace(
            run,
            metrics=run.metrics | {"jsd": 0.125},
            tags=run.tags | {"method": "LoTUS(alpha=2)"},
            method="LoTUS(alpha=2)",
        )
        if run.name == "LoTUS, seed 1"
        else run
        for run in runs
    ]
    for outcome in ("1 updated", "6 unchanged"):
        assert outcome in str(export(changed, database))
    run = found(database)["LoTUS(alpha=2), seed 1"]
    assert run.data.metrics["jsd"] == 0.125
    assert run.data.tags["method"] == "LoTUS(alpha=2)"
    assert run.info.status == "FINISHED"


def test_a_run_whose_export_was_cut_off_is_written_anew(
    exported: tuple[Store, str], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = next(r for r in runs_of(exported[0]) if r.name == "LoTUS, seed 1")
    half = replace(run, cell_id="b" * 20, tags=run.tags | {"cell_id": "b" * 20}, method="Half")

    def cut_off(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient.log_batch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            export([half], database)
    assert found(database)["Half, seed 1"].info.status == "RUNNING"
    assert export([half], database).runs == {"new": 1}
    again = found(database)["Half, seed 1"]
    assert again.info.status == "FINISHED"
    assert again.data.metrics["jsd"] == run.metrics["jsd"]


def test_more_and_longer_than_mlflow_takes_at_once(
    exported: tuple[Store, str], database: str
) -> None:
    """250 parameters, 3000 figures of phases, names and values over every limit."""
    run = next(r for r in runs_of(exported[0]) if r.name == "LoTUS, seed 1")
    big = replace(
        run,
        setting="s" * 600,
        method="m" * 600,
        params={"p" * 300: "v" * 7000, **{f"p{n}": n for n in range(250)}},
        tags={**run.tags, "error": "e" * 9000},
        phases=[{"loss": float(n), "lr": 0.5, "steps": 1.0} for n in range(1000)],
    )
    export([big], database)
    name = f"lotus-ray/Digits/Net/{'s' * 478}…"
    assert len(name) == 500
    (written,) = found(database, name).values()
    assert len(written.data.params) == 251
    assert written.data.params["p" * 250] == f"{'v' * 5999}…"
    assert written.data.tags["error"] == f"{'e' * 4999}…"
    history = client_of(database).get_metric_history(written.info.run_id, "phase/loss")
    assert [(m.step, m.value) for m in history] == [(n, n) for n in range(1000)]


def test_names_that_mlflow_refuses_are_mapped_and_stay_apart(
    exported: tuple[Store, str], database: str
) -> None:
    run = next(r for r in runs_of(exported[0]) if r.name == "LoTUS, seed 1")
    hostile = replace(
        run,
        benchmark="../x",
        model="<script>alert(1)</script>",
        method="'; DROP TABLE runs; --",
        cell_id="c'\"`%",
        tags={**run.tags, "cell_id": "c'\"`%", "": "nameless"},
        params={"../a=b": 1, "../a?b": 2, "/": 3, "": 4},
        metrics={"τ<1>": 0.5, "//": 1.0},
        phases=[],
    )
    for outcome in ("1 new", "1 unchanged"):
        assert outcome in str(export([hostile], database))
    name = "lotus-ray/../x/<script>alert(1)</script>/instance_10pct"
    (written,) = found(database, name).values()
    assert written.info.run_name == "'; DROP TABLE runs; --, seed 1"
    assert written.data.params == {"a_b": "1", "a_b_1": "2", "_": "3", "__3": "4"}
    assert written.data.metrics == {"τ_1_": 0.5, "_": 1.0}


def test_a_page_of_runs_is_not_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(list[Any]):
        token = ""

    def page_of(cells: str) -> Page:
        tags = [{"cell_id": cell, "generation": "0"} for cell in cells]
        return Page(SimpleNamespace(data=SimpleNamespace(tags=each)) for each in tags)

    first, second = page_of("ab"), page_of("c")
    first.token = "next"
    pages = {None: first, "next": second}
    client = SimpleNamespace(search_runs=lambda place, max_results, page_token: pages[page_token])
    assert set(_exported_runs(client, "1")) == {("a", "0"), ("b", "0"), ("c", "0")}


def test_without_mlflow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackerError) as caught:
        export([], "sqlite:///runs.db")
    assert caught.value.what.startswith("MLflow cannot be imported")
    assert caught.value.where == "--to mlflow"
    assert caught.value.nearest == "--to tensorboard --output FOLDER"
    assert caught.value.next_command == "pip install 'lotus-ray[mlflow]'"


@contextmanager
def silent_server() -> Iterator[int]:
    """Give the port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refused(uri: str) -> TrackerError:
    """Return the error of an export that must fail within seconds."""
    begun = time.monotonic()
    with pytest.raises(TrackerError) as caught:
        export([], uri)
    assert time.monotonic() - begun < 60
    assert "pa55" not in str(caught.value)
    assert caught.value.__suppress_context__
    return caught.value


def test_a_server_that_is_not_there_is_one_error_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = refused(f"http://me:pa55@127.0.0.1:{port}")
    assert error.what.startswith("MLflow cannot be reached: ")
    assert error.where == f"--uri http://***@127.0.0.1:{port}"
    assert error.exit_code == 6


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own wish counts
    with silent_server() as port:
        assert "imed out" in refused(f"http://127.0.0.1:{port}").what


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("sqlite:////proc/nowhere/runs.db", "No such file"),
        ("sqlite:////tmp", "unable to open database file"),
        (f"sqlite:///{Path(__file__).absolute()}", "file is not a database"),
        ("gopher://me:pa55@host/x", "gopher"),
        ("mysql+nothing://me:pa55@localhost/x", "mysql.nothing"),
    ],
)
def test_a_database_that_cannot_be_is_refused_at_once(uri: str, what: str) -> None:
    assert what in refused(uri).what


def test_a_path_is_no_uri() -> None:
    with pytest.raises(JobError) as caught:
        export([], "runs.db")
    assert caught.value.nearest == "sqlite:///runs.db"


def test_nothing_to_export_is_no_error(database: str) -> None:
    assert str(export([], database)) == f"0 runs: {database}"
