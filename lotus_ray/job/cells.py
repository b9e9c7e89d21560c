"""A job -> groups of cells. A cell is one method × data set × model × seed; its id is a hash.

A group is the cells that share data, roles, model and seed. They run one after another in one
worker group, the original first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lotus_ray import metrics
from lotus_ray.base.errors import DataError, JobError
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.roles.assign import Chosen, Roles, draw_roles
from lotus_ray.data.roles.class_names import class_number, with_calibration
from lotus_ray.data.roles.id_files import read_sample_ids
from lotus_ray.data.roles.warnings import notes_on
from lotus_ray.data.sources import prepare_command
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.method_spec import describe
from lotus_ray.job.schema import DatasetJob, ModelJob
from lotus_ray.models import ModelSpec
from lotus_ray.models.weights import file_digest
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.from_scratch import FromScratch


@dataclass(frozen=True)
class Cell:
    """One method on one group. `spec` is everything that its id is the hash of."""

    label: str
    spec: dict[str, Any]

    @property
    def cell_id(self) -> str:
        """Return 20 hexadecimal digits that identify the cell."""
        canonical = json.dumps(self.spec, sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class CellGroup:
    """Cells to run one after another, and all that they share. The first one is the original."""

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
    batch_size: int
    limit: int | None
    shuffle_window: int | None  # samples among which an epoch is shuffled; None is all
    cells: tuple[Cell, ...]
    expected_accuracy: float | None = None  # of the original, on the held-out images
    accuracy_tolerance: float = 0.03
    notes: tuple[str, ...] = ()  # what is odd about its data

    @property
    def original(self) -> Cell:
        """Return the cell that every other one starts from."""
        return self.cells[0]

    @property
    def roles_name(self) -> str:
        """Return the place of the table of roles in the store."""
        return f"roles/{self.roles_digest}.parquet"

    @property
    def labels(self) -> dict[str, Any]:
        """Return what reports call this group; none of it is part of a cell's identity."""
        return {
            "benchmark": self.benchmark,
            "model": self.model_label,
            "setting": self.setting,
            "smoke": self.limit is not None,
        }

    @property
    def name(self) -> str:
        """Return a name for people."""
        return f"{self.benchmark} {self.model_label} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """The groups of a job, and the tables of roles they use, by name in the store."""

    groups: tuple[CellGroup, ...]
    roles: dict[str, Roles]

    @property
    def cells(self) -> list[Cell]:
        """Return all cells, group by group."""
        return [cell for group in self.groups for cell in group.cells]

    def with_folders(self, moved: Mapping[Path, Path]) -> Plan:
        """Return the same plan after folders of data were moved; others stay."""
        groups = [
            replace(group, manifests=tuple(moved.get(path, path) for path in group.manifests))
            for group in self.groups
        ]
        return replace(self, groups=tuple(groups))

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the data, each thing once, and of which groups it is said."""
        said: dict[tuple[str, str, str], list[str]] = {}
        for group in self.groups:
            for note in group.notes:
                seeds = said.setdefault((group.benchmark, group.setting, note), [])
                seeds.extend([str(group.seed)] if str(group.seed) not in seeds else [])
        return [
            f"{benchmark}, {setting}, seed {', '.join(seeds)}: {note}"
            for (benchmark, setting, note), seeds in said.items()
        ]


def plan(loaded: LoadedJob, manifests: Sequence[Manifest], limit: int | None = None) -> Plan:
    """Expand a job to groups.

    Args:
        loaded: the job.
        manifests: of the data sets, in the order of the job.
        limit: keep at most so many samples of each role (the rows are marked smoke).

    Returns:
        One group for each data set × model × seed.

    Raises:
        DataError: labels or roles are wrong.
        JobError: a weights file cannot be read.
    """
    groups: list[CellGroup] = []
    roles: dict[str, Roles] = {}
    for dataset, manifest in zip(loaded.job.grid.datasets, manifests, strict=True):
        _check_classes(dataset, manifest)
        labels = read_labels(manifest)
        calibration = None
        if dataset.calibration:
            calibration = read_manifest(Path(dataset.calibration.manifest))
            labels = with_calibration(labels, manifest, calibration)
        forget, retain = chosen_samples(dataset, manifest)
        notes: dict[str, tuple[str, ...]] = {}
        for seed in dict.fromkeys(loaded.job.grid.seeds):
            for model, methods in zip(loaded.job.grid.models, loaded.methods, strict=True):
                draw = partial(
                    draw_roles,
                    labels,
                    len(manifest.classes),
                    forget,
                    seed,
                    retain=retain,
                    keep_rest=bool(model.train),
                )
                drawn = draw(limit=limit)
                cuts = limit if limit and len(drawn) < len(draw()) else None
                group = _group(loaded, dataset, manifest, model, drawn, seed, cuts)
                digests = {"data": manifest.digest}
                if calibration:
                    folders = (*group.manifests, calibration.directory.absolute())
                    group = replace(group, manifests=folders)
                    digests["calibration"] = calibration.digest
                if group.roles_digest not in notes:
                    notes[group.roles_digest] = notes_on(drawn, labels, manifest.classes)
                said = notes[group.roles_digest]
                group = replace(group, cells=_cells(methods, group, digests), notes=said)
                groups.append(group)
                roles[group.roles_name] = drawn
    _check_distinct(groups)
    return Plan(tuple(groups), roles)


def _check_distinct(groups: Sequence[CellGroup]) -> None:
    """Raise JobError where two groups hold the same cells under two names."""
    first: dict[str, CellGroup] = {}
    for group in groups:
        twin = first.setdefault(group.original.cell_id, group)
        if twin is not group:
            raise JobError(
                f"'{group.name}, {group.setting}' and '{twin.name}, {twin.setting}' are the same",
                where="grid.datasets × grid.models",
                next_command="remove one of the two from the job",
            )


def _check_classes(dataset: DatasetJob, manifest: Manifest) -> None:
    """Raise DataError where the data are not those that the job is about."""
    if dataset.num_classes not in (None, len(manifest.classes)):
        raise DataError(
            f"{dataset.name} has {len(manifest.classes)} classes in {manifest.directory}, "
            f"and {dataset.num_classes} in the job",
            where="grid.datasets[].num_classes",
        )
    if dataset.source not in (None, manifest.dataset):
        raise DataError(
            f"{manifest.directory} was prepared from {manifest.dataset}",
            where=f"grid.datasets[].source: {dataset.source}",
            next_command=prepare_command(dataset.source or "", "DEST"),
        )


def chosen_samples(dataset: DatasetJob, manifest: Manifest) -> tuple[Chosen, Chosen]:
    """Return what a job forgets and retains, its class names and id file resolved.

    Raises:
        DataError: a class does not exist, or the file of ids cannot be read.
    """
    wanted = dataset.forget
    where = "grid.datasets[].forget.classes"
    numbers = [class_number(str(name), manifest, where) for name in wanted.classes or ()]
    forget = Chosen(
        fraction=wanted.fraction,
        per_class=wanted.per_class,
        classes=tuple(numbers) or None,
        sample_ids=read_sample_ids(Path(wanted.ids)) if wanted.ids else None,
    )
    return forget, Chosen(fraction=dataset.retain.fraction, per_class=dataset.retain.per_class)


def _group(
    loaded: LoadedJob,
    dataset: DatasetJob,
    manifest: Manifest,
    model: ModelJob,
    roles: Roles,
    seed: int,
    limit: int | None,
) -> CellGroup:
    return CellGroup(
        benchmark=dataset.name,
        model_label=model.label or model.name,
        setting=dataset.setting_name + (f"_smoke{limit}" if limit else ""),
        seed=seed,
        manifests=(manifest.directory.absolute(),),
        roles_digest=roles.digest,
        transform=dataset.transform,
        model=model.spec(len(manifest.classes), loaded.job.offline),
        checkpoint=str(Path(model.initial_checkpoint).absolute())
        if model.initial_checkpoint
        else None,
        precision=loaded.job.precision,
        batch_size=loaded.job.batch_size,
        limit=limit,
        shuffle_window=dataset.shuffle_window,
        cells=(),
        expected_accuracy=model.expected_accuracy,
        accuracy_tolerance=model.accuracy_tolerance,
    )


def _cells(
    methods: Sequence[Method], group: CellGroup, digests: Mapping[str, str]
) -> tuple[Cell, ...]:
    shared = {
        **digests,
        "roles": group.roles_digest,
        "transform": group.transform.spec(),
        "model": _model_spec(group),
        "seed": group.seed,
        "precision": group.precision,
        "metrics": metrics.VERSION,
    }
    if group.shuffle_window is not None:
        shared["shuffle_window"] = group.shuffle_window
    original = _cell(methods[0], shared)
    unlearning = {"weights": original.cell_id, "batch_size": group.batch_size}
    others = [
        _cell(method, shared if isinstance(method, FromScratch) else shared | unlearning)
        for method in methods[1:]
    ]
    return (original, *others)


def _cell(method: Method, shared: Mapping[str, Any]) -> Cell:
    return Cell(method.label, {"method": describe(method), **shared})


def _model_spec(group: CellGroup) -> dict[str, Any]:
    checkpoint = file_digest(Path(group.checkpoint)) if group.checkpoint else None
    return {
        "name": group.model.name,
        "options": group.model.options,
        "pretrained": group.model.pretrained,
        "checkpoint": checkpoint,
    }
