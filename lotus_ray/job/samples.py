"""The samples of one data set: labels, forget and retain sets of a job, and roles."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.class_names import class_number, with_calibration
from lotus_ray.data.roles.id_files import read_sample_ids
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.roles.warnings import notes_on
from lotus_ray.data.sources import prepare_command
from lotus_ray.job.schema.dataset import DatasetJob


class Samples:
    """The samples of one data set, and the samples that a job forgets and retains."""

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
    def read(cls, dataset: DatasetJob, manifest: Manifest) -> Samples:
        """Read and check the labels of a data set and of its calibration set.

        Args:
            dataset: of the job.
            manifest: of the data set.

        Raises:
            DataError: labels are wrong, or do not match the job.
        """
        _check_classes(dataset, manifest)
        labels, calibration = read_labels(manifest), None
        if dataset.calibration:
            calibration = read_manifest(Path(dataset.calibration.manifest))
            labels = with_calibration(labels, manifest, calibration)
        return cls(dataset, manifest, labels, calibration)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the data set and of its calibration set."""
        manifests = filter(None, (self.manifest, self.calibration))
        return tuple(manifest.directory.absolute() for manifest in manifests)

    @property
    def digests(self) -> dict[str, str]:
        """The part of a cell's spec that identifies the data."""
        digests = {"data": self.manifest.digest}
        return digests | ({"calibration": self.calibration.digest} if self.calibration else {})

    def draw(
        self, seed: int, keep_other_train: bool, limit: int | None
    ) -> tuple[Roles, int | None]:
        """Draw roles.

        Args:
            seed: of the group.
            keep_other_train: True keeps other train in the table.
            limit: most samples of each role; None keeps all.

        Returns:
            The roles, and the limit if it leaves out any sample, else None.

        Raises:
            DataError: see `draw_roles`.
        """
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
        """Return warnings about the data with these roles."""
        if roles.digest not in self._notes:
            self._notes[roles.digest] = notes_on(roles, self.labels, self.manifest.classes)
        return self._notes[roles.digest]


def _chosen_samples(dataset: DatasetJob, manifest: Manifest) -> tuple[Chosen, Chosen]:
    """Return the forget and retain sets: class names become labels, a file becomes ids.

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
    """Raise DataError if the data do not match the job's number of classes or source."""
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
