"""Run the cells of a group, one after another, on one worker or on many: cell -> phases -> row.

Every worker calls `run_lane` with the same group; the first one alone reads and writes the store.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lotus_ray import models
from lotus_ray.base.errors import CellError, Diverged, OriginalAccuracyError, StoreError
from lotus_ray.base.memory import (
    device_memory,
    forget_peak,
    give_back_memory,
    keep_freed_memory,
)
from lotus_ray.base.roles import ROLES, STORED
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.problem import make_problem
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.metrics.evaluation import evaluate, evaluate_known, forget_probs
from lotus_ray.metrics.outputs import TENSORS, Outputs, random_forget_probs
from lotus_ray.metrics.summary import Summary, summarise
from lotus_ray.models import precision
from lotus_ray.models.precision import PRECISIONS
from lotus_ray.models.weights import (
    load_into,
    read_weights,
    weights_from_bytes,
    weights_to_bytes,
)
from lotus_ray.store.results import OK, Store
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.trial.expectation import check_accuracy
from lotus_ray.trial.images import TrialImages
from lotus_ray.trial.original_logits import known_logits
from lotus_ray.trial.row import about, failure, phase, status_of, with_attempts
from lotus_ray.unlearning.checkpoint import PhaseRecord
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.compile import compiling
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import BACKWARDS, STUDENT, TEACHER, ForwardCounter
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.problem import Problem

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class _Teacher:
    """The original of a group: every other cell starts from it."""

    model: nn.Module  # frozen, in eval mode
    logits: LogitsCache
    outputs: Outputs


@dataclass
class _Place:
    """Where a group runs: its samples, workers and device, and the original once it is known."""

    work_order: WorkOrder
    store: Store
    trial_images: TrialImages
    dataset: ImageDataset
    workers: Workers
    device: torch.device
    facts: Mapping[str, Any]
    teacher: _Teacher | None = None

    @property
    def group(self) -> CellGroup:
        return self.work_order.group

    @property
    def is_first(self) -> bool:
        return self.workers.rank == 0

    def initial_model(self, seed: int) -> nn.Module:
        """Return the network that training starts from: fresh, pretrained or a checkpoint."""
        group = self.group
        model = models.build(group.model, seed, "initial weights")
        if group.checkpoint:
            load_into(model, read_weights(Path(group.checkpoint)), where=group.checkpoint)
        return precision.prepare(model, group.precision, self.device)

    def random_model(self) -> nn.Module:
        """Return a network that knows nothing, frozen: another one than training starts from."""
        group = self.group
        fresh = replace(group.model, pretrained=False)
        model = models.build(fresh, group.seed, "random weights")
        return precision.prepare(model, group.precision, self.device).requires_grad_(False)


def run_group(
    work_order: WorkOrder,
    trial_images: TrialImages,
    workers: Workers,
    device: torch.device,
    facts: Mapping[str, Any],
) -> None:
    """Run every cell of a group that is not settled, and commit a row for each.

    Args:
        work order: the group and what is missing of it.
        material: its images, on this worker's node.
        workers: who share the work.
        device: where this worker computes.
        facts: where this runs, for the rows.

    Raises:
        Exception: whatever goes wrong on one of several workers, since the others cannot know of
            it; alone, a worker makes a failed row of it and goes on.
    """
    _warm_up()
    group = work_order.group
    dataset = ImageDataset(
        trial_images.pixels,
        trial_images.roles,
        group.transform,
        group.seed,
        device,
        PRECISIONS[group.precision].dtype,
        workers,
        stored=trial_images.stored,
        window=group.shuffle_window,
    )
    place = _Place(
        work_order, Store.open(work_order.store), trial_images, dataset, workers, device, facts
    )
    for cell in group.cells:
        settled = place.is_first and work_order.is_settled(cell, place.store)
        if not _first_says(workers, settled, device):
            _run_cell(place, cell)
            give_back_memory()


def _warm_up() -> None:
    """Do once what no cell's clock should show: imports behind the first fit and the first step."""
    import sklearn.linear_model  # noqa: F401

    keep_freed_memory()
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.1).step()


def _run_cell(place: _Place, cell: Cell) -> None:
    attempt = None
    forget_peak(place.device)
    if place.is_first:
        row_version = place.work_order.row_versions[cell.cell_id]
        attempt = place.store.begin(cell.cell_id, row_version, place.facts)
    try:
        with ForwardCounter().counting() as forwards:
            measured = _measure(place, cell, forwards)
        body = measured.row() | {"counters": _counters(place, forwards)}
        artifacts = measured.artifacts(place)
    except Diverged as error:  # every worker sees the same summed loss and the same weights
        body, artifacts = failure("diverged", error), {}
    except OriginalAccuracyError as error:  # and the same outputs
        body, artifacts = failure("failed", error), {}
    except StoreError:  # no fault of the cell, and its row could not be kept
        raise
    except Exception as error:
        if place.workers.size > 1:
            raise
        body, artifacts = failure(status_of(error), error), {}
    ours = False
    if attempt is not None:
        used = place.store.resources_by_attempt(cell.cell_id, attempt.row_version)
        facts = with_attempts(place.facts, used)
        known = {**about(place.group, cell), **facts, "bad_images": place.trial_images.bad}
        known["resources"] = {**known["resources"], **device_memory(place.device)}
        known["resources"]["compiled"] = place.work_order.compile
        visible = place.store.commit(attempt, {**known, **body}, artifacts)
        ours = visible["attempt_id"] == attempt.attempt_id
        place.store.remove_all(StoredCheckpoints.folder(cell.cell_id))
    # Where another driver's row came first, the others start from its weights, not from ours.
    is_teacher = cell == place.group.original and body["status"] == OK
    if is_teacher and _first_says(place.workers, ours, place.device):
        place.teacher = measured.teacher


def _counters(place: _Place, forwards: ForwardCounter) -> dict[str, int]:
    """Return what a cell cost, over all workers: images decoded for it, and forwards by network."""
    names = (STUDENT, BACKWARDS, TEACHER)
    ours = [place.trial_images.newly_decoded(), *(forwards.images[name] for name in names)]
    summed = place.workers.sum(torch.tensor(ours, dtype=torch.float64, device=place.device))
    counted = dict(zip(("images_decoded", *names), map(int, summed.tolist()), strict=True))
    return {**counted, "unique_images": len(place.trial_images.roles)}


@dataclass(frozen=True)
class _Measured:
    """What running a cell gave."""

    model: nn.Module
    weights: bytes  # on the first worker
    teacher: _Teacher | None
    outputs: Outputs
    summary: Summary
    clock: Clock
    records: list[PhaseRecord]
    resumed_at: int

    def row(self) -> dict[str, Any]:
        return {
            "status": OK,
            **self.summary.fields(),
            "timing": {f"{name}_seconds": value for name, value in self.clock.seconds.items()},
            "phases": [phase(record) for record in self.records],
            "resumed_at_phase": self.resumed_at,
        }

    def artifacts(self, place: _Place) -> dict[str, bytes]:
        if not place.is_first:
            return {}
        files = self.outputs.to_files(place.dataset.roles.sample_ids)
        return {WEIGHTS: self.weights, **files}


def _measure(place: _Place, cell: Cell, forwards: ForwardCounter) -> _Measured:
    """Unlearn and evaluate one cell. Metrics are empty but on the first worker."""
    clock = Clock(place.device)
    with clock.measure("prepare"):
        problem = _problem(place, cell, forwards)
        method = build_method(cell.spec["method"])
    checkpoints = StoredCheckpoints(
        store=place.store,
        name=StoredCheckpoints.place(cell.cell_id, place.work_order.row_versions[cell.cell_id]),
        workers=place.workers,
        clock=clock,
        every_seconds=place.work_order.checkpoint_seconds,
    )
    with clock.measure("unlearn"):
        records = unlearn(method, problem, checkpoints)
    give_back_memory()
    with clock.measure("evaluate"):
        weights = weights_to_bytes(problem.model) if place.is_first else b""
        teacher, outputs = _answers(place, cell, problem, weights)
        summary = summarise(outputs, teacher.outputs) if place.is_first else Summary()
    return _Measured(
        problem.model,
        weights,
        teacher,
        outputs,
        summary,
        clock,
        records,
        checkpoints.resumed_at,
    )


def _answers(
    place: _Place, cell: Cell, problem: Problem, weights: bytes
) -> tuple[_Teacher, Outputs]:
    """Return the original and what the cell's model answers: the original's own, of an original.

    Raises:
        Diverged: an answer is no number.
        UnexpectedOriginal: an original is not as accurate as it is known to be.
    """
    is_original = cell == place.group.original
    if is_original:
        problem.model.zero_grad(set_to_none=True)
        digest = hashlib.sha256(weights).hexdigest()
        random = forget_probs(
            problem.random_logits(problem.forget), _role_names(place), place.device
        )
        teacher = _teacher(place, problem.model, digest, random)
        outputs = teacher.outputs
    else:
        assert place.teacher is not None
        teacher, outputs = place.teacher, _evaluated(place, problem)
    if not np.isfinite(outputs.entropy).all():
        raise Diverged("outputs are NaN or infinite: the last step diverged")
    if is_original:
        check_accuracy(place.group, outputs)
    return teacher, outputs


def _evaluated(place: _Place, problem: Problem) -> Outputs:
    return evaluate(
        problem.model,
        {role: place.dataset.split(role) for role in ROLES},
        roles=_role_names(place),
        labels=place.dataset.roles.labels,
        num_classes=problem.num_classes,
        device=place.device,
        workers=place.workers,
    )


def _role_names(place: _Place) -> np.ndarray:
    names: np.ndarray = np.array(STORED)[place.dataset.roles.roles]
    return names


def _teacher(place: _Place, model: nn.Module, weights: str, random: np.ndarray | None) -> _Teacher:
    """Return the original with its logits: from the store, or computed and kept there.

    Args:
        place: where the group runs.
        model: the original.
        weights: the SHA-256 of its weights, on the first worker.
        random: what a random network answers to the forget set [N_f, C], on the first worker.
    """
    group = place.group
    spec = group.original.spec
    key = {name: spec[name] for name in ("data", "transform", "precision")}
    key |= {"weights": weights, "network": [group.model.name, group.model.options]}
    key |= {"torch": torch.__version__, "device": place.device.type}
    key |= {"calibration": spec.get("calibration")}
    # Files of somebody else are known by their ends, which may not tell all of their content.
    in_place = any(read_manifest(folder).in_place for folder in group.manifests)
    roles = place.dataset.roles
    frozen = model.eval().requires_grad_(False)
    logits = known_logits(
        frozen, roles, place.dataset.split, place.store, None if in_place else key, place.workers
    )
    names = _role_names(place)
    outputs = evaluate_known(logits, names, roles.labels, roles.num_classes, place.device)
    return _Teacher(frozen, logits, replace(outputs, random_forget_probs=random))


def _problem(place: _Place, cell: Cell, forwards: ForwardCounter) -> Problem:
    if cell == place.group.original:
        model = place.initial_model(place.group.seed)
        original, known = copy.deepcopy(model).requires_grad_(False), None
    else:
        teacher = place.teacher = place.teacher or _load_original(place, forwards)
        model = copy.deepcopy(teacher.model).requires_grad_(True)
        original, known = teacher.model, teacher.logits
    return make_problem(
        place.dataset,
        model,
        original,
        batch_size=place.group.batch_size,
        forwards=forwards,
        initial_model=place.initial_model,
        random_model=place.random_model,
        workers=compiling(place.workers) if place.work_order.compile else place.workers,
        cached_logits=known,
    )


def _load_original(place: _Place, forwards: ForwardCounter) -> _Teacher:
    """Return the committed original on every worker; the first one reads it for all."""
    cell = place.group.original
    model = place.initial_model(place.group.seed)
    row = place.store.row(cell.cell_id) if place.is_first else None
    usable = row is not None and row["status"] == OK
    if not _first_says(place.workers, usable, place.device):
        raise CellError(
            "its original was not trained: that cell failed",
            where=f"{place.work_order.store} cell {cell.cell_id}",
            next_command="lotus-ray grid JOB.yaml --retry-failed",
        )
    digest, random = "", None
    if row is not None:
        random = random_forget_probs(place.store.artifact(row, TENSORS))
        weights = weights_from_bytes(place.store.artifact(row, WEIGHTS))
        load_into(model, weights, where=row["artifacts"][WEIGHTS]["name"])
        digest = row["artifacts"][WEIGHTS]["sha256"]
    for value in model.state_dict().values():
        value.copy_(place.workers.from_first(value))
    with ForwardCounter(forwards.images).counting() as asked:
        asked.watch(model, TEACHER)
        teacher = _teacher(place, model, digest, random)
    check_accuracy(place.group, teacher.outputs)  # of which its own run may not have known
    return teacher


def _first_says(workers: Workers, answer: bool, device: torch.device) -> bool:
    return bool(workers.from_first(torch.tensor(float(answer), device=device)))
