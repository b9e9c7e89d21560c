"""Runs of cells in MLflow: one experiment for each benchmark × model × setting, one run a cell.

Nothing of the network is used but the tracking URI, and MLflow's own waiting is bounded.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lotus_ray.base.errors import JobError, TrackerError
from lotus_ray.report.export.runs import CellRun, Exported
from lotus_ray.report.export.secrets import told

NEW, UPDATED, UNCHANGED = "new", "updated", "unchanged"
PHASE = "phase/"  # before the names of figures that every phase has
SUPERSEDED = "superseded_by"
# MLflow's limits. A request may have 1 MB and 1000 values, 100 of them parameters.
_KEY, _PARAM, _TAG, _EXPERIMENT = 250, 6000, 5000, 500
_PARAMS_A_BATCH, _METRICS_A_BATCH, _RUNS_A_PAGE = 100, 900, 1000
_ALWAYS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # passwords with it
}
_UNLESS_SET = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_CONNECT_SECONDS = 10
_EXAMPLE = "lotus-ray export STORE --to mlflow --uri sqlite:///runs.db"
_Known = dict[tuple[str, str], Any]  # MLflow's runs by cell id and row version


def export(runs: Sequence[CellRun], uri: str) -> Exported:
    """Write runs of cells to MLflow; a run that is there already is brought up to date.

    What compares a cell with the gold standard may change once that one is run again, and is
    logged again then. A run whose export was cut off is deleted and written anew.

    Args:
        runs: from `runs_of`.
        uri: a tracking URI: sqlite:///runs.db, http://host:5000, postgresql://host/mlflow.

    Raises:
        TrackerError: MLflow is not installed, cannot be reached, or refuses a run.
        JobError: the URI is a path.
    """
    did: Counter[str] = Counter()
    with _environment():
        client = _connected(uri)
        with _explained("MLflow refuses what is exported", uri):
            for name, members in groupby(runs, _experiment_name):
                experiment = client.get_experiment_by_name(name)
                known = _known(client, experiment.experiment_id) if experiment else {}
                place = experiment.experiment_id if experiment else client.create_experiment(name)
                did.update(_put(client, place, run, known) for run in members)
    return Exported(did, told(uri))


def _put(client: Any, experiment: str, run: CellRun, known: _Known) -> str:
    result = known.get((run.cell_id, str(run.row_version)))
    if result is not None and result.info.status != "RUNNING":
        return UPDATED if _update(client, run, result) else UNCHANGED
    if result is not None:
        client.delete_run(result.info.run_id)
    _create(client, experiment, run)
    for (cell_id, row_version), older in known.items():
        if cell_id == run.cell_id and int(row_version) < run.row_version:
            client.set_tag(older.info.run_id, SUPERSEDED, str(run.row_version))
    return NEW


def _create(client: Any, experiment: str, run: CellRun) -> None:
    """Write a run; until its status is set at the very end, it is known to be incomplete."""
    from mlflow.entities import Metric, Param

    created = client.create_run(
        experiment, start_time=_ms(run.started_at), tags=_tags(run), run_name=_limited(run.name)
    )
    params = {
        name: _limited(value if isinstance(value, str) else str(value).lower(), _PARAM)
        for name, value in _named(run.params).items()
    }
    steps = [(name, value, 0) for name, value in _named(run.metrics).items()]
    for step, phase in enumerate(run.phases):
        named = _named({f"{PHASE}{name}": value for name, value in phase.items()})
        steps += [(name, value, step) for name, value in named.items()]
    ended = _ms(run.ended_at)
    metrics = [Metric(name, value, ended, step) for name, value, step in steps]
    for some_metrics, some_params in zip_longest(
        _batches(metrics, _METRICS_A_BATCH),
        _batches([Param(*item) for item in params.items()], _PARAMS_A_BATCH),
        fillvalue=(),
    ):
        client.log_batch(created.info.run_id, metrics=some_metrics, params=some_params)
    status = "FINISHED" if run.is_ok else "FAILED"
    client.set_terminated(created.info.run_id, status, end_time=ended)


def _update(client: Any, run: CellRun, found: Any) -> bool:
    """Write what differs from a run that is there; return whether anything does."""
    from mlflow.entities import Metric, RunTag

    run_id, now = found.info.run_id, _ms(time.time())
    metrics = [
        Metric(name, value, now, 0)
        for name, value in _named(run.metrics).items()
        if not math.isclose(found.data.metrics.get(name, math.nan), value, rel_tol=1e-12)
    ]
    tags = [
        RunTag(name, value)
        for name, value in _tags(run).items()
        if found.data.tags.get(name) != value
    ]
    renamed = found.info.run_name != _limited(run.name)
    if metrics or tags:
        client.log_batch(run_id, metrics=metrics, tags=tags)
    if renamed:
        client.update_run(run_id, name=_limited(run.name))
    return bool(metrics or tags or renamed)


def _known(client: Any, experiment: str) -> _Known:
    """Return the runs of an experiment that an export wrote, deleted ones left out."""
    known: _Known = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=_RUNS_A_PAGE, page_token=token)
        for run in page:
            tags = run.data.tags
            if "cell_id" in tags and tags.get("generation", "").isdecimal():
                known[tags["cell_id"], tags["generation"]] = run
        token = page.token
        if not token:
            return known


def _experiment_name(run: CellRun) -> str:
    parts = (run.benchmark, run.model, run.setting)
    return _limited("/".join(["lotus-ray", *parts]), _EXPERIMENT)


def _tags(run: CellRun) -> dict[str, str]:
    return {name: _limited(value, _TAG) for name, value in _named(run.tags).items()}


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values under names that MLflow takes, which stay as many as they were."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        parts = re.sub(r"[^/\w.\- ]", "_", name).split("/")
        key = "/".join(part for part in parts if part not in ("", ".", ".."))[:_KEY] or "_"
        while key in named:
            key = f"{key[: _KEY - 9]}_{len(named)}"
        named[key] = value
    return named


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _limited(text: str, most: int = _KEY) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


@contextmanager
def _environment() -> Iterator[None]:
    """Keep MLflow from calling home and from waiting for minutes; give back what was set."""
    before = dict(os.environ)
    os.environ.update({**_UNLESS_SET, **before, **_ALWAYS})
    try:
        yield
    finally:
        for name in (*_ALWAYS, *_UNLESS_SET):
            _restore(name, before.get(name))


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _connected(uri: str) -> Any:
    """Return a client of a tracking URI that has answered.

    Raises:
        TrackerError: MLflow is not installed, or nothing answers.
        JobError: the URI is a path.
    """
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise TrackerError(
            f"MLflow cannot be imported: {error}",
            where="--to mlflow",
            nearest="--to tensorboard --output FOLDER",
            next_command="pip install 'lotus-ray[mlflow]'",
        ) from error
    scheme = urlsplit(uri).scheme
    if not scheme and uri != "databricks":
        raise JobError(
            "MLflow keeps runs in a database or on a server, not in a file or folder",
            where=f"--uri {told(uri)}",
            nearest=f"sqlite:///{told(uri)}",
            next_command=_EXAMPLE,
        )
    with _explained("MLflow cannot be reached", uri):
        if scheme.split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql"):
            _check_database(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _check_database(uri: str) -> None:
    """Connect once: MLflow alone would try for two minutes before it says what is wrong."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    options: dict[str, Any] = {}
    if url.get_backend_name() in ("postgresql", "mysql"):
        options["connect_timeout"] = _CONNECT_SECONDS
    elif url.database and url.get_backend_name() == "sqlite":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(url, connect_args=options)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


@contextmanager
def _explained(what: str, uri: str) -> Iterator[None]:
    """Turn what MLflow and its database raise into one error of ours, told without secrets."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ImportError, ValueError, *_database_errors()) as error:
        raise TrackerError(
            f"{what}: {_reason(error)}",
            where=f"--uri {told(uri)}",
            nearest="sqlite:///runs.db",
            next_command=f"curl {told(uri)}/health" if uri.startswith("http") else _EXAMPLE,
        ) from None  # whose text may hold the password


def _database_errors() -> tuple[type[Exception], ...]:
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:  # MLflow's slim package knows servers alone
        return ()
    return (SQLAlchemyError,)


def _reason(error: BaseException) -> str:
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    first = next((line for line in lines if line), type(error).__name__)
    caused = re.search(r"\(Caused by (.*)\)", first)
    return _limited(told(caused.group(1) if caused else first), 400)
