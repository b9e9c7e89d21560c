"""`lotus-ray evaluate`: weights or predictions from elsewhere become a row of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lotus_ray.base.errors import JobError
from lotus_ray.data.roles.table import Roles
from lotus_ray.grid.local import runner_here
from lotus_ray.grid.missing import cache_space_for
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Stages
from lotus_ray.grid.planning import plan_grid
from lotus_ray.job.cells import Cell
from lotus_ray.job.datasets import check_here
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.plan import Plan
from lotus_ray.job.preview import preview
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models.state_dicts import read_weights
from lotus_ray.models.weights import file_digest
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial.elsewhere import (
    Elsewhere,
    check_fits,
    predictions_facts,
    predictions_row,
    weights_row,
)
from lotus_ray.trial.original import original_failed
from lotus_ray.trial.predictions import Predictions, read_predictions
from lotus_ray.unlearning.methods import METHODS

_LONGEST = 80  # characters of a label


@dataclass(frozen=True)
class Evaluated:
    """A row of weights or predictions from elsewhere, and whether this call made it."""

    row: Row
    is_new: bool
    store: Store


def evaluate_weights(
    loaded: LoadedJob,
    *,
    weights: Path | str | None = None,
    predictions: Path | str | None = None,
    label: str | None = None,
    key: str | None = None,
    seed: int | None = None,
    store: str | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Evaluated:
    """Evaluate weights or predictions that another tool made, like any cell of a job.

    The original of the job is run first if the store has no row of it. Everything happens in this
    process, without Ray. If the store has a row of the same content, nothing is computed.

    Args:
        loaded: the job, with one data set and one model.
        weights: a state dict: .safetensors, or .pth, which is read without running code.
        predictions: logits by sample id instead: .npz, .parquet or .csv.
        label: of the row in reports; default: the file's name without its ending.
        key: the state dict to take, of a file that holds several.
        seed: of the job's seeds, the one whose forget set was unlearned; needed if it has several.
        store: address of the rows; default: the job's.
        limit: most samples of each role, as in a smoke test of the grid.
        say: shows a line about what is done.

    Raises:
        JobError: the file is refused, does not fit the job's model, or a choice is missing.
        LotusRayError: data, store or original cannot be used.
    """
    loaded = _one_group(loaded, seed)
    given = _read(weights, predictions, label, key)
    opened = Store.open(store or loaded.job.store)
    for dataset in loaded.job.grid.datasets:
        check_here(dataset)
    planned = preview(loaded, limit).planned
    group = planned.groups[0]
    check_fits(group, planned.roles[group.roles_name], given)  # before anything is written
    cell = given.cell(group)
    found = opened.row(cell.cell_id) if opened.exists() else None
    if found is not None and found.is_ok:
        return Evaluated(found, False, opened)
    options = Options(local=True, limit=limit)
    planned, work_orders, _ = plan_grid(loaded, opened, options, Stages())
    if work_orders:
        say("the store has no row of the original, so it runs first")
    order = _work_order(loaded, planned, work_orders, opened, cell)
    roles = planned.roles[order.group.roles_name]
    return Evaluated(_run(order, loaded, roles, opened, given, say), True, opened)


def _one_group(loaded: LoadedJob, seed: int | None) -> LoadedJob:
    """Return a job with its original alone, and one data set, model and seed.

    Raises:
        JobError: the job has several data sets or models, or no such seed, or several and none is
            chosen.
    """
    grid = loaded.job.grid
    for name in ("datasets", "models"):
        if (count := len(getattr(grid, name))) > 1:
            raise JobError(
                f"evaluate makes one row, and the job has {count} {name}",
                where=loaded.document.where(("grid", name)),
                next_command=f"lotus-ray evaluate JOB.yaml --set grid.{name}=[…] --weights FILE",
            )
    seeds = list(dict.fromkeys(grid.seeds))
    if len(seeds) > 1 if seed is None else seed not in seeds:
        what = f"the job has no seed {seed}" if seed is not None else "the job has several seeds"
        raise JobError(
            f"{what}: say for which of them the forget set was unlearned",
            where=loaded.document.where(("grid", "seeds")),
            nearest=f"one of {', '.join(map(str, seeds))}",
            next_command=f"lotus-ray evaluate JOB.yaml --seed {seeds[0]} --weights FILE",
        )
    one = grid.model_copy(update={"seeds": seeds[:1] if seed is None else [seed]})
    return replace(
        loaded,
        job=loaded.job.model_copy(update={"grid": one}),
        entries=tuple(entries[:1] for entries in loaded.entries),
    )


def _read(
    weights: Path | str | None, predictions: Path | str | None, label: str | None, key: str | None
) -> Elsewhere:
    """Read the file that was given, and check the label.

    Raises:
        JobError: see `evaluate_weights`.
    """
    path = Path(weights or predictions or "")
    if (weights is None) == (predictions is None) or (key is not None and weights is None):
        raise JobError(
            "give either weights, perhaps with a key, or predictions",
            where="--weights, --key, --predictions",
            next_command="lotus-ray evaluate JOB.yaml --weights FILE",
        )
    name = path.stem if label is None else label.strip()
    known = [method.label for method in METHODS.values()]
    taken = [each for each in known if each.lower() == name.lower()]
    if taken or not name.isprintable() or not 0 < len(name) <= _LONGEST:
        raise JobError(
            f"{taken[0]} is the label of a method that runs here"
            if taken
            else f"a label has 1 to {_LONGEST} printable characters",
            where="--label",
            nearest=f"{taken[0]} elsewhere" if taken else "",
            next_command="give another --label",
        )
    digest = file_digest(path)
    made = read_weights(path, key) if weights else read_predictions(path, path.read_bytes())
    return Elsewhere(name, path.name, path.stat().st_size, digest, key, made)


def _work_order(
    loaded: LoadedJob, planned: Plan, missing: Sequence[WorkOrder], store: Store, cell: Cell
) -> WorkOrder:
    """Return the work order of the cell, and of its original if that is missing."""
    resources = loaded.job.resources
    order = (
        missing[0]
        if missing
        else WorkOrder(
            planned.groups[0],
            {},
            store.location,
            cache_space=cache_space_for(resources),
            max_bad_images=resources.max_bad_images,
            store_id=store.store_id() or "",
        )
    )
    versions = {**order.row_versions, cell.cell_id: store.next_row_versions()[cell.cell_id]}
    return replace(order, row_versions=versions)


def _run(
    order: WorkOrder,
    loaded: LoadedJob,
    roles: Roles,
    store: Store,
    given: Elsewhere,
    say: Callable[[str], None],
) -> Row:
    """Run the original if it is missing, then evaluate and commit; return the visible row."""
    group, original = order.group, order.group.original
    cell_id = given.cell(group).cell_id
    begin = partial(store.begin, cell_id, order.row_versions[cell_id])
    is_weights = not isinstance(given.made, Predictions)
    if is_weights or original.cell_id in order.row_versions:
        with runner_here(loaded.job.resources, order.cache_space, say) as runner:
            runner.run(order, original)
            if is_weights:
                context = runner.context(order)
                attempt = begin(context.facts)
                return store.commit(attempt, *weights_row(context, given))
    before = store.row(original.cell_id)
    if before is None or not before.is_ok:
        raise original_failed(order)
    attempt = begin(predictions_facts())
    return store.commit(attempt, *predictions_row(group, roles, store, before, given))
