"""Rows of weights or logits that were made elsewhere: evaluated like any other cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.base.machine import machine_facts
from lotus_ray.base.roles import ROLES, STORED
from lotus_ray.base.timestamps import utc_now
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.metrics.change import outputs_changed, weight_change
from lotus_ray.metrics.evaluation import evaluate_logits
from lotus_ray.metrics.outputs import SAMPLES, TENSORS, Outputs
from lotus_ray.metrics.own import add_own
from lotus_ray.metrics.summary import Summary, summarise
from lotus_ray.models import precision
from lotus_ray.models.weights import WEIGHTS, load_into, weights_to_bytes
from lotus_ray.store.results import Store
from lotus_ray.store.row import OK, Resources, Row
from lotus_ray.trial.cell import evaluate_model
from lotus_ray.trial.context import Context
from lotus_ray.trial.original import load_original
from lotus_ray.trial.predictions import Predictions
from lotus_ray.trial.row import new_row
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.forward_counter import ForwardCounter

METHOD = "elsewhere"  # the method's name in the spec of such a cell
_NO_SECONDS = "the seconds of what was made elsewhere are not known"
_NO_WEIGHTS = "predictions alone have no weights"


@dataclass(frozen=True)
class Elsewhere:
    """Weights, or predictions alone, that another tool made."""

    label: str  # in reports
    file: str  # its name, without folders
    bytes: int
    sha256: str
    key: str | None  # of several state dicts in the file
    made: Mapping[str, Tensor] | Predictions  # weights by name, or predictions

    @property
    def kind(self) -> str:
        """Return weights or predictions."""
        return "predictions" if isinstance(self.made, Predictions) else "weights"

    def cell(self, group: CellGroup) -> Cell:
        """Return the cell of a group whose id these weights or predictions have.

        The id depends on the content of the file and on the original, not on label or file name.
        """
        method = {"name": METHOD, "version": 1, "kind": self.kind, "sha256": self.sha256}
        method |= {"key": self.key} if self.key else {}
        spec = {**group.original.spec, "method": method, "weights": group.original.cell_id}
        return Cell(self.label, spec)

    def provenance(self) -> dict[str, Any]:
        """Return what the row says about where its figures come from."""
        about = {"file": self.file, "bytes": self.bytes, "sha256": self.sha256, "kind": self.kind}
        about |= {"key": self.key} if self.key else {}
        return {**about, "label": self.label, "evaluated_at": utc_now()}


def check_fits(group: CellGroup, roles: Roles, given: Elsewhere) -> None:
    """Check weights against the network of a group, or predictions against its samples.

    Raises:
        JobError: weights do not fit or are not finite, or predictions of samples are missing.
    """
    if isinstance(given.made, Predictions):
        given.made.ordered(roles)
        return
    for name, value in given.made.items():
        if not bool(value.isfinite().all()):
            raise JobError(f"the weights hold NaN or infinity: {name}", where=given.file)
    with torch.device("meta"):
        network = models.build(group.model.untrained, "check")
    load_into(network, dict(given.made), given.file)


def weights_row(context: Context, given: Elsewhere) -> tuple[Row, dict[str, bytes]]:
    """Evaluate weights beside the original of a group, in one process.

    Args:
        context: of the group. Its original is in the store.
        given: weights that fit.

    Returns:
        The row and its artifacts, to be committed.

    Raises:
        LotusRayError: the original failed or cannot be read, or outputs are not finite.
    """
    assert not isinstance(given.made, Predictions)
    group, clock = context.group, Clock(context.device)
    with clock.measure("prepare"):
        original = context.original = context.original or load_original(context, ForwardCounter())
        network = models.build(group.model.untrained, group.seed, "weights from elsewhere")
        network = precision.prepare(network, group.precision, context.device)
        load_into(network, dict(given.made), given.file).eval().requires_grad_(False)
    with clock.measure("evaluate"):
        outputs = evaluate_model(context, network)
        _check_finite(outputs, given)
        summary = summarise(outputs, original.outputs)
        add_own(summary, outputs, original.outputs, given.cell(group).spec)
        change = weight_change(network, original.model)
        change |= {"outputs_changed": outputs_changed(outputs, original.outputs)}
    row = new_row(
        group,
        given.cell(group),
        status=OK,
        **_metrics(summary, {}),
        change=change,
        timing={f"{name}_seconds": value for name, value in clock.seconds.items()},
        resources=Resources.from_json(context.facts["resources"]),
        versions=context.facts["versions"],
        bad_images=context.trial_images.bad,
        provenance=given.provenance(),
    )
    files = outputs.to_files(context.dataset.roles.sample_ids)
    return row, {WEIGHTS: weights_to_bytes(network), **files}


def predictions_row(
    group: CellGroup, roles: Roles, store: Store, original: Row, given: Elsewhere
) -> tuple[Row, dict[str, bytes]]:
    """Compute the metrics of predictions, without a network and without images.

    Args:
        group: the group that was predicted.
        roles: its table of roles.
        store: with the artifacts of the original.
        original: the good row of the group's original.
        given: predictions.

    Returns:
        The row and its artifacts, to be committed.

    Raises:
        LotusRayError: logits are missing or wrong, or the original's outputs cannot be read.
    """
    assert isinstance(given.made, Predictions)
    roles = roles.without(original.bad_images)
    logits = torch.from_numpy(given.made.ordered(roles))
    computed = evaluate_logits(
        logits, np.array(STORED)[roles.roles], roles.labels, roles.num_classes
    )
    _check_finite(computed, given)
    files = computed.to_files(roles.sample_ids)
    outputs = Outputs.from_files(files[SAMPLES], files[TENSORS])
    before = Outputs.from_files(
        store.artifact(original, SAMPLES), store.artifact(original, TENSORS)
    )
    summary = summarise(outputs, before)
    add_own(summary, outputs, before, given.cell(group).spec)
    row = new_row(
        group,
        given.cell(group),
        status=OK,
        **_metrics(
            summary,
            {"relative_distance": _NO_WEIGHTS, "weights_moved": _NO_WEIGHTS},
        ),
        change={"outputs_changed": outputs_changed(outputs, before)},
        versions=predictions_facts()["versions"],
        bad_images=original.bad_images,
        provenance=given.provenance(),
    )
    return row, files


def predictions_facts() -> dict[str, Any]:
    """Return device and versions of this machine, where predictions become metrics."""
    return machine_facts(torch.device("cpu"), workers=1)


def _metrics(summary: Summary, undefined: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a row with metrics, and why others are undefined."""
    fields = summary.fields()
    fields["undefined"] |= {"unlearn_seconds": _NO_SECONDS, **undefined}
    return fields


def _check_finite(outputs: Outputs, given: Elsewhere) -> None:
    if not np.isfinite(outputs.of(outputs.entropy, *ROLES)).all():
        raise JobError("outputs are NaN or infinite", where=given.file)
