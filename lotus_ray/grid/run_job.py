"""`lotus_ray.run` and `lotus_ray.evaluate`: what these commands do, from Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.grid.evaluate import Evaluated, evaluate_weights
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome
from lotus_ray.grid.run import run_grid
from lotus_ray.job.load import LoadedJob, load_job
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
    imports: Sequence[str] = (),
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
        imports: plug-ins, files or modules, as after `--import`.

    Returns:
        The rows of the job's cells. A cell that failed has a row that says so.

    Raises:
        JobError: the job is wrong.
        LotusRayError: no cell could start, or the run ended early. Rows so far are in the store.
    """
    if limit is not None and limit < 1:
        raise JobError(f"limit is {limit}, and must be at least 1", where="limit")
    loaded = _loaded(job, overrides, imports)
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


def evaluate(
    job: str | Path | Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    predictions: str | Path | None = None,
    label: str | None = None,
    key: str | None = None,
    seed: int | None = None,
    store: str | Path | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> Evaluated:
    """Make a row of weights or predictions of another tool, as `lotus-ray evaluate` does.

    The original of the job is run first, in this process, if the store has no row of it. What is
    done goes to stderr.

    Args:
        job: as for `run`, with one data set and one model.
        weights: a state dict, .safetensors or .pth; or else
        predictions: logits by sample id, .npz, .parquet or .csv.
        label: of the row in reports; default: the file's name without its ending.
        key: the state dict to take, of a file that holds several.
        seed: of the job's seeds, the one whose forget set was unlearned; needed if it has several.
        store: as the next three, see `run`.
        limit: samples of each role.
        overrides: of the job.
        imports: plug-ins.

    Returns:
        The row (`.row`), whether this call made it, and the store.

    Raises:
        JobError: the file is refused, does not fit the job's model, or a choice is missing.
        LotusRayError: data, store or original cannot be used.
    """
    return evaluate_weights(
        _loaded(job, overrides, imports),
        weights=_file(weights, "weights", "torch.save(model.state_dict(), FILE)"),
        predictions=_file(
            predictions, "predictions", "numpy.savez(FILE, sample_id=ids, logits=logits)"
        ),
        label=label,
        key=key,
        seed=seed,
        store=None if store is None else str(store),
        limit=limit,
        say=partial(print, file=sys.stderr),
    )


def _file(given: object, name: str, save: str) -> Path | None:
    """Return the path that an argument gives, or None.

    Args:
        given: the argument.
        name: its name.
        save: writes such a file.

    Raises:
        JobError: it is no path.
    """
    if given is None or isinstance(given, str | Path):
        return None if given is None else Path(given)
    raise JobError(
        f"{type(given).__name__} is not the path of a file",
        where=name,
        next_command=f"{save}, and {name}=FILE",
    )


def _loaded(
    job: str | Path | Mapping[str, Any], overrides: Sequence[str], imports: Sequence[str]
) -> LoadedJob:
    """Read a job, and show its notes: what was taken for what it does not say.

    Raises:
        JobError: the job is wrong.
    """
    loaded = load_job(_source(job), overrides, imports)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    return loaded


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
