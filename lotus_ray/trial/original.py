"""The original of a group: loaded or just trained, with its logits, its accuracy checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lotus_ray.base.errors import CellError, OriginalAccuracyError
from lotus_ray.base.roles import TEST, UNSEEN
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.metrics.evaluation import evaluate_cached, forget_probs
from lotus_ray.metrics.outputs import TENSORS, Outputs, random_forget_probs
from lotus_ray.models.weights import (
    WEIGHTS,
    load_into,
    weights_from_bytes,
)
from lotus_ray.store.late_row import committed_row
from lotus_ray.store.row import Row
from lotus_ray.trial.context import Context, Original
from lotus_ray.trial.original_logits import stored_logits
from lotus_ray.unlearning.forward_counter import TEACHER, ForwardCounter
from lotus_ray.unlearning.problem import Problem


class OriginalPending(Exception):
    """Nobody trains the original that a cell waits for. The cell has to run again, after it."""


Wait = Callable[[WorkOrder], None]  # until the row of an original is there; or OriginalPending


def no_wait(work_order: WorkOrder) -> None:
    """Wait for no original: cells run here in their order."""


def _with_logits(
    context: Context, model: nn.Module, weights_sha256: str, random_probs: np.ndarray | None
) -> Original:
    """Return the original with its logits: from the store, or computed and kept there.

    Args:
        context: where the group runs.
        model: the trained network.
        weights_sha256: of its weights, on the first worker.
        random_probs: outputs of a random network on the forget set [N_f, C], on the first worker.
    """
    group, roles = context.group, context.dataset.roles
    spec = group.original.spec
    key = {name: spec[name] for name in ("data", "transform", "precision")}
    key |= {"weights": weights_sha256, "network": [group.model.name, group.model.options]}
    key |= {"torch": torch.__version__, "device": context.device.type}
    key |= {"calibration": spec.get("calibration")}
    # The digest of external files covers their footers alone, which may not tell all content.
    is_external = any(read_manifest(folder).is_external for folder in group.manifests)
    frozen = model.eval().requires_grad_(False)
    logits = stored_logits(
        frozen,
        roles,
        context.dataset.split,
        context.store,
        None if is_external else key,
        context.workers,
    )
    outputs = evaluate_cached(
        logits, context.role_names, roles.labels, roles.num_classes, context.device
    )
    return Original(frozen, logits, replace(outputs, random_forget_probs=random_probs))


def new_original(context: Context, problem: Problem, weights: bytes) -> Original:
    """Return the original that was just trained, with its logits and outputs.

    Args:
        context: where the group runs.
        problem: its `model` is trained.
        weights: of the model, on the first worker.
    """
    problem.model.zero_grad(set_to_none=True)
    random_logits = problem.random_logits(problem.forget)
    random_probs = forget_probs(random_logits, context.role_names, context.device)
    digest = hashlib.sha256(weights).hexdigest()
    return _with_logits(context, problem.model, digest, random_probs)


def original_failed(work_order: WorkOrder) -> CellError:
    """Return the error of a cell whose original has no good row."""
    return CellError(
        "its original was not trained: that cell failed",
        where=f"{work_order.store} cell {work_order.group.original.cell_id}",
        next_command="lotus-ray grid JOB.yaml --retry-failed",
    )


def load_original(context: Context, forwards: ForwardCounter) -> Original:
    """Return the committed original on every worker. The first worker reads it for all.

    Raises:
        CellError: the cell of the original failed.
        OriginalAccuracyError: see `check_accuracy`.
        StoreError: its row does not show here, though it is committed; or it cannot be read.
    """
    model = context.initial_model(context.group.seed)
    row = _original_row(context) if context.is_first else None
    if not context.first_decides(row is not None and row.is_ok):
        raise original_failed(context.work_order)
    digest, random_probs = "", None
    if row is not None:
        random_probs = random_forget_probs(context.store.artifact(row, TENSORS))
        weights = weights_from_bytes(context.store.artifact(row, WEIGHTS))
        load_into(model, weights, where=row.artifacts[WEIGHTS].name)
        digest = row.artifacts[WEIGHTS].sha256
    for value in model.state_dict().values():
        value.copy_(context.workers.from_first(value))
    with ForwardCounter(forwards.images).counting() as counted:
        counted.watch(model, TEACHER)
        original = _with_logits(context, model, digest, random_probs)
    check_accuracy(context.group, original.outputs)  # the job's expected_accuracy may be new
    return original


def _original_row(context: Context) -> Row:
    """Return the row of the original. An older one, of a run before this one, does not serve."""
    cell_id = context.group.original.cell_id
    row_version = context.work_order.row_versions.get(cell_id, 0)
    return committed_row(context.store, cell_id, row_version)


def check_accuracy(group: CellGroup, outputs: Outputs) -> None:
    """Check the accuracy of an original on the held-out images against what its job expects.

    A group that a limit cuts short is not checked.

    Args:
        group: says `expected_accuracy`, over unseen and test together, and `accuracy_tolerance`.
        outputs: of the original.

    Raises:
        OriginalAccuracyError: the accuracy is too low or too high.
    """
    expected = group.expected_accuracy
    if expected is None or group.limit is not None:
        return
    accuracy = float(outputs.of(outputs.predicted == outputs.labels, UNSEEN, TEST).mean())
    if not abs(accuracy - expected) <= group.accuracy_tolerance:
        raise OriginalAccuracyError(
            f"the original is right about {accuracy:.4f} of the held-out images, and the job "
            f"expects {expected:.4f} ± {group.accuracy_tolerance:g}: the labels may be in another "
            "order or shifted, or the images are not prepared as the model wants them",
            where=f"{group.name}: grid.models[].expected_accuracy",
            next_command="compare classes, img_size, crop_pct, interpolation, mean and std with "
            "those of the weights; or --set model.expected_accuracy=null --retry-failed",
        )
