"""The samples of one data set: labels, forget and retain sets of a job, and roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.class_names import class_number, with_calibration
from lotus_ray.data.roles.subset import cut
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.roles.warnings import notes_on
from lotus_ray.data.roles.wrong_labels import WrongLabels, noise, swap
from lotus_ray.data.sources import HELDOUT, TRAIN, prepare_command
from lotus_ray.data.sources.image_folder import NAME as IMAGE_FOLDER
from lotus_ray.job.forget_set import choose, left_out
from lotus_ray.job.schema.dataset import DatasetJob


class Samples:
    """The samples of one data set, and the samples that a job forgets and retains."""

    def __init__(
        self,
        dataset: DatasetJob,
        manifest: Manifest,
        labels: pa.Table,
        calibration: Manifest | None,
        whole: pa.Table,
    ) -> None:
        self.dataset = dataset
        self.manifest = manifest
        self.labels = labels  # sample_id, label, split, sha256
        self.calibration = calibration
        self._wrong = _wrong_labels(dataset, manifest, labels)
        kept = set(labels["sample_id"].to_pylist())
        forget, notes = choose(dataset.forget, manifest, whole, kept, self._wrong)
        retain = Chosen(fraction=dataset.retain.fraction, per_class=dataset.retain.per_class)
        self._chosen = forget, retain
        self._own_notes = (*notes, *self._changes())
        self._left_out = left_out(dataset.retain, whole, kept)
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
        whole, calibration = read_labels(manifest), None
        subset = dataset.subset
        labels = cut(whole, subset.train_per_class, subset.heldout_per_class) if subset else whole
        if dataset.calibration:
            calibration = read_manifest(Path(dataset.calibration.manifest))
            labels = with_calibration(labels, manifest, calibration)
        return cls(dataset, manifest, labels, calibration, whole)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the data set and of its calibration set."""
        manifests = filter(None, (self.manifest, self.calibration))
        return tuple(manifest.directory.absolute() for manifest in manifests)

    @property
    def digests(self) -> dict[str, Any]:
        """The part of a cell's spec that identifies the data, and says how they were changed."""
        digests: dict[str, Any] = {"data": self.manifest.digest}
        if self.calibration:
            digests["calibration"] = self.calibration.digest
        for name in ("subset", "label_noise", "corrupt"):
            value = getattr(self.dataset, name)
            if value is not None:
                digests[name] = value.model_dump(mode="json") if name != "label_noise" else value
        return digests

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
            left_out=self._left_out,
            keep_other_train=keep_other_train,
        )
        drawn = draw(limit=limit)
        is_cut = limit is not None and len(drawn) < len(draw())
        return self._as_trained(drawn), limit if is_cut else None

    def notes(self, roles: Roles) -> tuple[str, ...]:
        """Return warnings about the data with these roles."""
        if roles.digest not in self._notes:
            own = notes_on(roles, self.labels, self.manifest.classes)
            self._notes[roles.digest] = (*self._own_notes, *own)
        return self._notes[roles.digest]

    def _as_trained(self, roles: Roles) -> Roles:
        """Return roles with the labels that models are trained on. Roles follow the true ones."""
        if not self._wrong:
            return roles
        labels = roles.labels.copy()
        for row, name in enumerate(roles.sample_ids):
            labels[row] = self._wrong.get(name, labels[row])
        return replace(roles, labels=labels)

    def _changes(self) -> Iterator[str]:
        """Yield a line for data of another source, for a subset and for wrong labels."""
        if self.dataset.source not in (None, self.manifest.dataset):
            yield f"prepared from folders of images; the job says {self.dataset.source}"
        splits = self.labels["split"].to_pylist()
        trained = splits.count(TRAIN)
        if self.dataset.subset is not None:
            yield f"a subset: {trained} training and {splits.count(HELDOUT)} held-out images"
        if self._wrong:
            yield (
                f"{len(self._wrong)} of {trained} training images have wrong labels, on which "
                "models are trained; held-out labels are right"
            )


def _wrong_labels(dataset: DatasetJob, manifest: Manifest, labels: pa.Table) -> WrongLabels:
    """Return the wrong labels of training images that a job asks for.

    Raises:
        DataError: a class to swap does not exist, both are one, or no image gets a wrong label.
    """
    if dataset.label_noise is None and dataset.corrupt is None:
        return {}
    if dataset.corrupt is not None:
        where = "grid.datasets[].corrupt.swap"
        pair = [class_number(str(name), manifest, where) for name in dataset.corrupt.swap]
        if pair[0] == pair[1]:
            raise DataError("the two classes to swap are one", where=where)
        wrong = swap(labels, pair[0], pair[1], dataset.corrupt.share)
    else:
        wrong = noise(labels, len(manifest.classes), dataset.label_noise or 0.0)
    if not wrong:
        raise DataError(
            "no image gets a wrong label: the share of every class rounds to none",
            where="grid.datasets[].label_noise or corrupt.share",
        )
    return wrong


def _check_classes(dataset: DatasetJob, manifest: Manifest) -> None:
    """Raise DataError if the data do not match the job's number of classes or source."""
    if dataset.num_classes not in (None, len(manifest.classes)):
        raise DataError(
            f"{dataset.name} has {len(manifest.classes)} classes, "
            f"and {dataset.num_classes} in the job",
            where="grid.datasets[].num_classes",
        )
    # Folders may hold the images of any source. A note says so.
    if dataset.source not in (None, manifest.dataset) and manifest.dataset != IMAGE_FOLDER:
        raise DataError(
            f"{manifest.directory} was prepared from {manifest.dataset}",
            where=f"grid.datasets[].source: {dataset.source}",
            next_command=f"write source: {manifest.dataset}; or "
            + prepare_command(dataset.source or "", f"{manifest.directory}-{dataset.source}"),
        )
