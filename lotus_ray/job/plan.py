"""A job -> its groups of cells, and the table of roles of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from lotus_ray.base.errors import DataError, JobError
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.class_names import class_number, with_calibration
from lotus_ray.data.roles.id_files import read_sample_ids
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.roles.warnings import notes_on
from lotus_ray.data.sources import prepare_command
from lotus_ray.job.cells import Cell, CellGroup, make_cells
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.schema.dataset import DatasetJob
from lotus_ray.job.schema.model import ModelJob


@dataclass(frozen=True)
class Plan:
    """The groups of a job, and the tables of roles they use, by name in the store."""

    groups: tuple[CellGroup, ...]
    roles: dict[str, Roles]

    @property
    def cells(self) -> list[Cell]:
        """Return all cells, group by group."""
        return [cell for group in self.groups for cell in group.cells]

    @property
    def notes(self) -> list[str]:
        """Return one line for each odd thing about the data, with the groups that have it."""
        seeds: dict[tuple[str, str, str], dict[str, None]] = {}
        for group in self.groups:
            for note in group.notes:
                key = (group.benchmark, group.setting, note)
                seeds.setdefault(key, {})[str(group.seed)] = None
        return [
            f"{benchmark}, {setting}, seed {', '.join(of_note)}: {note}"
            for (benchmark, setting, note), of_note in seeds.items()
        ]

    def with_folders(self, moved: Mapping[Path, Path]) -> Plan:
        """Return the same plan after folders of data were moved; others stay."""
        groups = [
            replace(group, manifests=tuple(moved.get(path, path) for path in group.manifests))
            for group in self.groups
        ]
        return replace(self, groups=tuple(groups))


def plan(loaded: LoadedJob, manifests: Sequence[Manifest], limit: int | None = None) -> Plan:
    """Expand a job to groups.

    Args:
        loaded: the job.
        manifests: of the data sets, in the order of the job.
        limit: keep at most this many samples of each role (the rows are marked smoke).

    Returns:
        One group for each data set × model × seed.

    Raises:
        DataError: labels or roles are wrong.
        JobError: a weights file cannot be read, or two groups are the same.
    """
    grid = loaded.job.grid
    groups: list[CellGroup] = []
    roles: dict[str, Roles] = {}
    for dataset, manifest in zip(grid.datasets, manifests, strict=True):
        samples = _Samples.read(dataset, manifest)
        for seed in dict.fromkeys(grid.seeds):
            for index, model in enumerate(grid.models):
                drawn, cut = samples.draw(seed, bool(model.train), limit)
                group = _group(loaded, samples, model, drawn, seed, cut)
                if group.roles_name not in roles:
                    roles[group.roles_name] = drawn
                cells = make_cells(loaded.methods[index], group, samples.digests)
                groups.append(replace(group, cells=cells, notes=samples.notes(drawn)))
    _check_distinct(groups)
    return Plan(tuple(groups), roles)


class _Samples:
    """The samples of one data set, and which of them a job forgets and retains."""

    def __init__(
        self,
        dataset: DatasetJob,
        manifest: Manifest,
        labels: pa.Table,
        calibration: Manifest | None,
    ) -> None:
        self.dataset = dataset
        self.manifest = manifest
        self.labels = labels  # sample_id, label, split, sha256
        self.calibration = calibration
        self._chosen = _chosen_samples(dataset, manifest)
        self._notes: dict[str, tuple[str, ...]] = {}  # by digest of roles

    @classmethod
    def read(cls, dataset: DatasetJob, manifest: Manifest) -> _Samples:
        """Read the labels of a data set and of its calibration set, and check them."""
        _check_classes(dataset, manifest)
        labels, calibration = read_labels(manifest), None
        if dataset.calibration:
            calibration = read_manifest(Path(dataset.calibration.manifest))
            labels = with_calibration(labels, manifest, calibration)
        return cls(dataset, manifest, labels, calibration)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders of the data set and of its calibration set."""
        manifests = filter(None, (self.manifest, self.calibration))
        return tuple(manifest.directory.absolute() for manifest in manifests)

    @property
    def digests(self) -> dict[str, str]:
        """Return the part of a cell's identity that says what the data are."""
        digests = {"data": self.manifest.digest}
        return digests | ({"calibration": self.calibration.digest} if self.calibration else {})

    def draw(
        self, seed: int, keep_other_train: bool, limit: int | None
    ) -> tuple[Roles, int | None]:
        """Draw roles; return them, and the limit if it leaves out any sample."""
        forget, retain = self._chosen
        draw = partial(
            draw_roles,
            self.labels,
            len(self.manifest.classes),
            forget,
            seed,
            retain=retain,
            keep_other_train=keep_other_train,
        )
        drawn = draw(limit=limit)
        return drawn, limit if limit and len(drawn) < len(draw()) else None

    def notes(self, roles: Roles) -> tuple[str, ...]:
        """Return what is odd about the data with these roles."""
        if roles.digest not in self._notes:
            self._notes[roles.digest] = notes_on(roles, self.labels, self.manifest.classes)
        return self._notes[roles.digest]


def _group(
    loaded: LoadedJob,
    samples: _Samples,
    model: ModelJob,
    roles: Roles,
    seed: int,
    limit: int | None,
) -> CellGroup:
    """Return a group that has no cells yet."""
    dataset, weights = samples.dataset, model.initial_checkpoint
    return CellGroup(
        benchmark=dataset.name,
        model_label=model.label or model.name,
        setting=dataset.setting_name + (f"_smoke{limit}" if limit else ""),
        seed=seed,
        manifests=samples.folders,
        roles_digest=roles.digest,
        transform=dataset.transform,
        model=model.spec(len(samples.manifest.classes), loaded.job.offline),
        checkpoint=str(Path(weights).absolute()) if weights else None,
        precision=loaded.job.precision,
        batch_size=loaded.job.batch_size,
        limit=limit,
        shuffle_window=dataset.shuffle_window,
        cells=(),
        expected_accuracy=model.expected_accuracy,
        accuracy_tolerance=model.accuracy_tolerance,
    )


def _chosen_samples(dataset: DatasetJob, manifest: Manifest) -> tuple[Chosen, Chosen]:
    """Return what a job forgets and retains: class names become labels, a file becomes ids.

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


def _check_classes(dataset: DatasetJob, manifest: Manifest) -> None:
    """Raise DataError if the data are not those that the job names."""
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


def _check_distinct(groups: Sequence[CellGroup]) -> None:
    """Raise JobError if two groups hold the same cells under two names."""
    first: dict[str, CellGroup] = {}
    for group in groups:
        twin = first.setdefault(group.original.cell_id, group)
        if twin is not group:
            raise JobError(
                f"'{group.name}, {group.setting}' and '{twin.name}, {twin.setting}' are the same",
                where="grid.datasets × grid.models",
                next_command="remove one of the two from the job",
            )
