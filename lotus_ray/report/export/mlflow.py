"""Runs of cells in MLflow: one experiment per benchmark × model × setting, one run per cell."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import Any

from lotus_ray.report.export.mlflow_client import connected, environment, explained, limited
from lotus_ray.report.export.runs import CellRun, Exported
from lotus_ray.report.export.secrets import redact

NEW, UPDATED, UNCHANGED = "new", "updated", "unchanged"
PHASE = "phase/"  # prefix of the names of values by phase
SUPERSEDED = "superseded_by"
# MLflow's limits. A request may have 1 MB and 1000 values, at most 100 of them parameters.
_KEY, _PARAM, _TAG, _EXPERIMENT = 250, 6000, 5000, 500
_PARAMS_A_BATCH, _METRICS_A_BATCH, _RUNS_A_PAGE = 100, 900, 1000
_Exported = dict[tuple[str, str], Any]  # MLflow's runs by cell id and row version


def export(runs: Sequence[CellRun], uri: str) -> Exported:
    """Write runs of cells to MLflow. Runs that were exported before are updated.

    If the gold standard ran again, the comparisons of each cell with it are logged again. A run
    whose export was interrupted is deleted and written again.

    Args:
        runs: from `runs_of`.
        uri: a tracking URI: sqlite:///runs.db, http://host:5000, postgresql://host/mlflow.

    Returns:
        How many runs are new, updated and unchanged.

    Raises:
        TrackerError: MLflow is not installed, cannot be reached, or refuses a run.
        JobError: the URI is a path.
    """
    did: Counter[str] = Counter()
    with environment():
        client = connected(uri)
        with explained("MLflow refuses what is exported", uri):
            for name, members in groupby(runs, _experiment_name):
                experiment = client.get_experiment_by_name(name)
                number = experiment.experiment_id if experiment else client.create_experiment(name)
                earlier = _exported_runs(client, number) if experiment else {}
                did.update(_put(client, number, run, earlier) for run in members)
    return Exported(did, redact(uri))


def _put(client: Any, experiment: str, run: CellRun, earlier: _Exported) -> str:
    """Create or update one run; mark runs of earlier row versions as superseded."""
    result = earlier.get((run.cell_id, str(run.row_version)))
    if result is not None and result.info.status != "RUNNING":
        return UPDATED if _update(client, run, result) else UNCHANGED
    if result is not None:
        client.delete_run(result.info.run_id)
    _create(client, experiment, run)
    for (cell_id, row_version), older in earlier.items():
        if cell_id == run.cell_id and int(row_version) < run.row_version:
            client.set_tag(older.info.run_id, SUPERSEDED, str(run.row_version))
    return NEW


def _create(client: Any, experiment: str, run: CellRun) -> None:
    """Write a run. Its status is set last: without it, the run is incomplete."""
    from mlflow.entities import Metric, Param

    created = client.create_run(
        experiment,
        start_time=_ms(run.started_at),
        tags=_tags(run),
        run_name=limited(run.name, _KEY),
    )
    params = {
        name: limited(value if isinstance(value, str) else str(value).lower(), _PARAM)
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


def _update(client: Any, run: CellRun, exported: Any) -> bool:
    """Write the values that changed since the export; return True if any did."""
    from mlflow.entities import Metric, RunTag

    run_id, now = exported.info.run_id, _ms(time.time())
    metrics = [
        Metric(name, value, now, 0)
        for name, value in _named(run.metrics).items()
        if not math.isclose(exported.data.metrics.get(name, math.nan), value, rel_tol=1e-12)
    ]
    tags = [
        RunTag(name, value)
        for name, value in _tags(run).items()
        if exported.data.tags.get(name) != value
    ]
    renamed = exported.info.run_name != limited(run.name, _KEY)
    if metrics or tags:
        client.log_batch(run_id, metrics=metrics, tags=tags)
    if renamed:
        client.update_run(run_id, name=limited(run.name, _KEY))
    return bool(metrics or tags or renamed)


def _exported_runs(client: Any, experiment: str) -> _Exported:
    """Return the runs of an experiment that were exported, without deleted ones."""
    runs: _Exported = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=_RUNS_A_PAGE, page_token=token)
        for run in page:
            tags = run.data.tags
            if "cell_id" in tags and tags.get("generation", "").isdecimal():
                runs[tags["cell_id"], tags["generation"]] = run
        token = page.token
        if not token:
            return runs


def _experiment_name(run: CellRun) -> str:
    parts = (run.benchmark, run.model, run.setting)
    return limited("/".join(["lotus-ray", *parts]), _EXPERIMENT)


def _tags(run: CellRun) -> dict[str, str]:
    return {name: limited(value, _TAG) for name, value in _named(run.tags).items()}


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values under names that MLflow accepts. Different names stay different."""
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


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
