"""`lotus_ray.run`: all cells of a job, from Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome
from lotus_ray.grid.run import run_grid
from lotus_ray.job.load import load_job
from lotus_ray.report.results import Results
from lotus_ray.store.results import Store


class Run(Results):
    """The rows of a job's cells, and the outcome of the call that ran the missing ones."""

    def __init__(self, store: Store, outcome: Outcome) -> None:
        """See `run`."""
        super().__init__(store, outcome.labels)
        self.outcome = outcome

    def __repr__(self) -> str:
        return self.outcome.last_line


def run(
    job: str | Path | Mapping[str, Any],
    *,
    store: str | Path | None = None,
    local: bool = False,
    limit: int | None = None,
    retry_failed: bool = False,
    force: bool = False,
    overrides: Sequence[str] = (),
) -> Run:
    """Run every missing cell of a job, as `lotus-ray grid` does; its progress goes to stderr.

    Args:
        job: a job file, or what such a file holds, as a dictionary. Its paths are then relative to
            the working directory.
        store: use this store instead of the job's.
        local: run in this process, without Ray.
        limit: use at most so many samples of each role, for a smoke test.
        retry_failed: run failed cells again.
        force: run every cell again.
        overrides: A.B=C, as after `--set`.

    Returns:
        The rows of the job's cells. A cell that failed has a row that says so.

    Raises:
        JobError: the job is wrong.
        LotusRayError: no cell could start, or the run ended early. Rows so far are in the store.
    """
    if limit is not None and limit < 1:
        raise JobError(f"limit is {limit}, and must be at least 1", where="limit")
    loaded = load_job(_source(job), overrides)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    opened = Store.open(str(store or loaded.job.store))
    outcome = run_grid(loaded, opened, Options(local, limit, retry_failed, force))
    outcome.write(opened)
    if outcome.error:
        raise LotusRayError(
            outcome.error,
            where=f"{outcome.done} of {len(outcome.cell_ids)} cells are in {opened.uri}",
            next_command="run the same again: it goes on",
        )
    return Run(opened, outcome)


def _source(job: str | Path | Mapping[str, Any]) -> Path | Mapping[str, Any]:
    """Return a path, or the values of a job.

    Raises:
        JobError: this is neither, such as YAML text.
    """
    if isinstance(job, Mapping):
        return job
    if not isinstance(job, str | Path) or "\n" in str(job):
        what = "text" if isinstance(job, str) else type(job).__name__
        raise JobError(
            f"a job is the path of a file or a dictionary, and this is {what}",
            where="job",
            next_command="lotus_ray.run(yaml.safe_load(TEXT))",
        )
    return Path(job)
