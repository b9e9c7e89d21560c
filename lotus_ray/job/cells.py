"""Cells and groups.

A cell is one method × data set × model × seed. Its id is a hash of everything that its result
depends on. A group is the cells that share data, roles, model and seed. The original
runs before its methods.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lotus_ray import metrics
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.job.method_entry import MethodEntry
from lotus_ray.job.method_spec import describe
from lotus_ray.models import ModelSpec
from lotus_ray.models.weights import file_digest
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.from_scratch import FromScratch


@dataclass(frozen=True)
class Cell:
    """One method on one group. Its id is the hash of `spec`."""

    label: str
    spec: dict[str, Any]

    @property
    def cell_id(self) -> str:
        """20 hexadecimal digits that identify the cell."""
        canonical = json.dumps(self.spec, sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class CellGroup:
    """Cells that share data, roles, model and seed. The first is the original."""

    benchmark: str
    model_label: str
    setting: str
    seed: int
    manifests: tuple[Path, ...]  # folders: the data set's, and its calibration set's
    roles_digest: str
    transform: Transform
    model: ModelSpec
    checkpoint: str | None
    precision: str
    batch_size: int  # the job's; the spec of a cell that unlearns has its own
    limit: int | None
    shuffle_window: int | None  # images per window of shuffling; None shuffles all at once
    cells: tuple[Cell, ...]
    expected_accuracy: float | None = None  # of the original, on the held-out images
    accuracy_tolerance: float = 0.03
    notes: tuple[str, ...] = ()  # warnings about its data
    checkpoint_key: str | None = None  # of several state dicts in the checkpoint
    own_metrics: tuple[Mapping[str, Any], ...] = ()  # of plug-ins: `OwnMetric.spec`
    relearn: Mapping[str, Any] | None = None  # `Relearn.spec`; of all cells but the original

    @property
    def original(self) -> Cell:
        """The cell that every other cell starts from."""
        return self.cells[0]

    @property
    def roles_name(self) -> str:
        """The name of the table of roles in the store."""
        return f"roles/{self.roles_digest}.parquet"

    @property
    def labels(self) -> dict[str, Any]:
        """The names of this group in reports. Cell ids do not depend on them."""
        return {
            "benchmark": self.benchmark,
            "model": self.model_label,
            "setting": self.setting,
            "smoke": self.limit is not None,
        }

    @property
    def name(self) -> str:
        """A name for messages."""
        return f"{self.benchmark} {self.model_label} seed {self.seed}"


def make_cells(
    entries: Sequence[MethodEntry], group: CellGroup, digests: Mapping[str, Any]
) -> tuple[Cell, ...]:
    """Return the cells of a group. A cell id depends only on the cell's spec.

    Args:
        entries: the original's first.
        group: the group. Its field `cells` is not read.
        digests: of the data, by name, and how a job changes them.

    Raises:
        JobError: the weights file of the group cannot be read.
    """
    shared = {
        **digests,
        "roles": group.roles_digest,
        "transform": group.transform.spec(),
        "model": _model_spec(group),
        "seed": group.seed,
        "precision": group.precision,
        "metrics": metrics.VERSION,
    }
    if group.own_metrics:
        shared["own_metrics"] = list(group.own_metrics)
    if group.shuffle_window is not None:
        shared["shuffle_window"] = group.shuffle_window
    original = _cell(entries[0].method, shared)
    if group.relearn is not None:
        shared["relearn"] = dict(group.relearn)
    others = [
        _cell(entry.method, shared)
        if isinstance(entry.method, FromScratch)
        else _cell(
            entry.method,
            shared | {"weights": original.cell_id, "batch_size": entry.batch_size},
        )
        for entry in entries[1:]
    ]
    return (original, *others)


def _cell(method: Method, shared: Mapping[str, Any]) -> Cell:
    return Cell(method.title, {"method": describe(method), **shared})


def _model_spec(group: CellGroup) -> dict[str, Any]:
    """Return the part of a cell's spec that describes the network."""
    checkpoint = file_digest(Path(group.checkpoint)) if group.checkpoint else None
    key = {"checkpoint_key": group.checkpoint_key} if group.checkpoint_key else {}
    return {
        **({"code": group.model.code} if group.model.code else {}),
        "name": group.model.name,
        "options": group.model.options,
        "pretrained": group.model.pretrained,
        "checkpoint": checkpoint,
        **key,
    }
