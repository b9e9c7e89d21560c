"""One cell: unlearn, evaluate, commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lotus_ray.base.errors import Diverged, MethodError, OriginalAccuracyError, StoreError
from lotus_ray.base.memory import device_memory, release_memory, reset_peak_memory
from lotus_ray.base.roles import ROLES
from lotus_ray.job.cells import Cell
from lotus_ray.job.method_spec import build_method
from lotus_ray.metrics.change import outputs_changed, weight_change
from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.metrics.own import add_own
from lotus_ray.metrics.summary import Summary, summarise
from lotus_ray.models.weights import WEIGHTS, weights_to_bytes
from lotus_ray.store.attempts import Attempt
from lotus_ray.store.row import OK, Resources, Row
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.trial.context import Context, Original
from lotus_ray.trial.decoding_beside import DecodingBeside
from lotus_ray.trial.original import (
    OriginalPending,
    check_accuracy,
    load_original,
    new_original,
)
from lotus_ray.trial.problem import cell_problem
from lotus_ray.trial.relearn import relearn_curve
from lotus_ray.trial.row import failure, new_row, phase, resources_of
from lotus_ray.unlearning.checkpoint import PhaseRecord
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import BACKWARDS, STUDENT, TEACHER, ForwardCounter
from lotus_ray.unlearning.micro_batch import MicroBatch


@dataclass(frozen=True)
class RunCell:
    """A cell that has run, on one worker. Its row is not committed yet."""

    context: Context
    cell: Cell
    attempt: Attempt | None  # None on other workers than the first
    row: Row | None  # the same
    measured: _Measured | None  # None if it failed

    @property
    def is_original(self) -> bool:
        """True for the original of a group. The other cells need it from its commit on."""
        return self.cell == self.context.group.original

    def commit(self) -> None:
        """Commit the row. Every worker calls this for an original; of others the first is enough.

        Raises:
            StoreError: the store failed. The cell is not at fault.
        """
        context, row_is_ours = self.context, False
        if self.attempt is not None and self.row is not None:
            artifacts = self.measured.artifacts(context) if self.measured else {}
            row = context.store.commit(self.attempt, self.row, artifacts)
            row_is_ours = row.attempt_id == self.attempt.attempt_id
            context.store.remove_all(StoredCheckpoints.folder(self.cell.cell_id))
        # If another driver's row came first, the other cells start from its weights, not from ours.
        if self.measured and self.is_original and context.first_decides(row_is_ours):
            context.original = self.measured.original


def run_cell(context: Context, cell: Cell) -> RunCell:
    """Run one cell. Every worker calls this.

    Args:
        context: of the group.
        cell: to run.

    Returns:
        The cell, to be committed.

    Raises:
        StoreError: the store failed. The cell is not at fault, and there is no row to commit.
        OriginalPending: nobody trains the original that this cell has waited for.
        Exception: any error on one of several workers, because the others do not see it. A single
            worker returns a failed row instead.
    """
    attempt = None
    reset_peak_memory(context.device)
    if context.is_first:
        row_version = context.work_order.row_versions[cell.cell_id]
        attempt = context.store.begin(cell.cell_id, row_version, context.facts)
    measured = None
    work_order = context.work_order
    micro_batch = MicroBatch(work_order.micro_batch, work_order.micro_batch_is_auto)
    try:
        with ForwardCounter().counting() as forwards:
            context.position.begin(forwards.images)
            measured = _measure(context, cell, forwards, micro_batch)
        fields = measured.row_fields() | {"counters": _counters(context, forwards)}
    except Diverged as error:  # every worker sees the same summed loss and the same weights
        fields = failure(error, "diverged")
    except (OriginalAccuracyError, MethodError) as error:  # every worker sees the same figures
        fields = failure(error)
    except (StoreError, OriginalPending):
        raise
    except Exception as error:
        if context.workers.size > 1:
            raise
        fields = failure(error)
    good = measured if fields["status"] == OK else None
    row = _row(context, cell, attempt, fields, micro_batch, good) if attempt else None
    return RunCell(context, cell, attempt, row, good)


def _row(
    context: Context,
    cell: Cell,
    attempt: Attempt,
    fields: dict[str, Any],
    micro_batch: MicroBatch,
    measured: _Measured | None,
) -> Row:
    """Return the row of a cell from the fields that were measured, and where it ran."""
    resources = resources_of(
        context.facts,
        context.store.resources_by_attempt(cell.cell_id, attempt.row_version),
        **(measured.memory if measured else device_memory(context.device)),
        compiled=context.work_order.compile,
        micro_batch=micro_batch.smallest,
        decoding_beside=measured.decoding_beside if measured else None,
    )
    return new_row(
        context.group,
        cell,
        bad_images=context.trial_images.bad,
        resources=Resources.from_json(resources),
        versions=context.facts["versions"],
        **fields,
    )


def _counters(context: Context, forwards: ForwardCounter) -> dict[str, int]:
    """Sum over workers: images decoded for this cell, and images through each network."""
    names = (STUDENT, BACKWARDS, TEACHER)
    own = [context.trial_images.newly_decoded(), *(forwards.images[name] for name in names)]
    total = context.workers.sum(torch.tensor(own, dtype=torch.float64, device=context.device))
    counters = dict(zip(("images_decoded", *names), map(int, total.tolist()), strict=True))
    return {**counters, "unique_images": len(context.trial_images.roles)}


@dataclass(frozen=True)
class _Measured:
    """The results of running a cell."""

    weights: bytes  # on the first worker
    original: Original
    outputs: Outputs
    summary: Summary  # empty on other workers than the first
    change: dict[str, float]  # of weights and outputs, from the original's
    clock: Clock
    records: list[PhaseRecord]
    resumed_at: int
    decoding_beside: float | None  # part of the seconds of unlearning
    memory: dict[str, int]  # see `device_memory`
    relearn: dict[str, Any] | None  # see `relearn_curve`

    def row_fields(self) -> dict[str, Any]:
        """Return the fields of Row that were measured."""
        return {
            "status": OK,
            **self.summary.fields(),
            "change": self.change,
            "timing": {f"{name}_seconds": value for name, value in self.clock.seconds.items()},
            "phases": [phase(record) for record in self.records],
            "resumed_at_phase": self.resumed_at,
            "relearn": self.relearn,
        }

    def artifacts(self, context: Context) -> dict[str, bytes]:
        """Return the files that the row names, by name."""
        files = self.outputs.to_files(context.dataset.roles.sample_ids)
        return {WEIGHTS: self.weights, **files}


def _measure(
    context: Context, cell: Cell, forwards: ForwardCounter, micro_batch: MicroBatch
) -> _Measured:
    """Unlearn and evaluate one cell."""
    clock = Clock(context.device)
    row_version = context.work_order.row_versions[cell.cell_id]
    with clock.measure("prepare"):
        problem = cell_problem(context, cell, forwards)
        problem.micro_batch, problem.position = micro_batch, context.position
        method = build_method(cell.spec["method"])
    checkpoints = StoredCheckpoints(
        store=context.store,
        name=StoredCheckpoints.file_name(cell.cell_id, row_version),
        workers=context.workers,
        clock=clock,
        every_seconds=context.work_order.checkpoint_seconds,
    )
    context.before_training()
    beside = DecodingBeside(context)
    with beside.measure(), clock.measure("unlearn"), checkpoints:
        records = unlearn(method, problem, checkpoints)
    release_memory()
    if cell != context.group.original and context.original is None:  # a gold standard is trained
        _wait_for_original(context)
        with clock.measure("prepare"):
            context.original = load_original(context, forwards)
    with clock.measure("evaluate"):
        weights = weights_to_bytes(problem.model) if context.is_first else b""
        if cell == context.group.original:
            original = new_original(context, problem, weights)
            outputs = original.outputs
        else:
            assert context.original is not None
            original, outputs = context.original, evaluate_model(context, problem.model)
        if not np.isfinite(outputs.entropy).all():
            raise Diverged("outputs are NaN or infinite: the last step diverged")
        if cell == context.group.original:
            check_accuracy(context.group, outputs)
        summary = summarise(outputs, original.outputs) if context.is_first else Summary()
        if context.is_first:
            add_own(summary, outputs, original.outputs, cell.spec)
        changed = {"outputs_changed": outputs_changed(outputs, original.outputs)}
        change = weight_change(problem.model, original.model) | changed
    memory = device_memory(context.device)
    curve = None
    if (settings := cell.spec.get("relearn")) is not None:
        with clock.measure("relearn"):
            curve = relearn_curve(context, problem, outputs, settings)
    return _Measured(
        weights,
        original,
        outputs,
        summary,
        change,
        clock,
        records,
        checkpoints.resumed_at,
        beside.share,
        memory,
        curve,
    )


def _wait_for_original(context: Context) -> None:
    """Wait on the first worker until the original may be there.

    Raises:
        OriginalPending: nobody trains it. Every worker raises it, so that none has to die.
    """
    pending = False
    if context.is_first:
        try:
            context.wait_for_original()
        except OriginalPending:
            pending = True
    if context.first_decides(pending):
        raise OriginalPending


def evaluate_model(context: Context, model: nn.Module) -> Outputs:
    """Return the outputs of a model on every sample of the group that is evaluated."""
    return evaluate(
        model,
        {role: context.dataset.split(role) for role in ROLES},
        roles=context.role_names,
        labels=context.dataset.roles.labels,
        num_classes=context.dataset.roles.num_classes,
        device=context.device,
        workers=context.workers,
    )
