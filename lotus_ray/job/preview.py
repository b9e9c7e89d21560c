"""What is known of a job before it runs: where its data are, its cells, and whether models fit."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from lotus_ray.base.errors import DataError, JobError
from lotus_ray.data.prepared import manifest as shards
from lotus_ray.data.prepared.check import verify
from lotus_ray.data.prepared.external import DATASET, read_external
from lotus_ray.data.prepared.manifest import Columns, Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, SOURCES, TRAIN, prepare_command
from lotus_ray.job.cells import CellGroup, Plan, plan
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.schema import DatasetJob, ParquetFiles
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models import ModelSpec, build, pretrained
from lotus_ray.models.weights import load_into, read_weights
from lotus_ray.store.results import Row


def locate_data(loaded: LoadedJob, embedded: Path) -> list[Manifest]:
    """Return the manifest of every data set of a job; embedded ones are prepared below a folder.

    Raises:
        DataError: a data set, or its calibration set, is missing or damaged.
    """
    manifests = []
    for dataset in loaded.job.grid.datasets:
        check_here(dataset)
        if dataset.parquet is not None:
            manifest = _adopt(dataset.parquet, embedded)
        elif dataset.manifest is not None:
            manifest = verify(shards.read_manifest(Path(dataset.manifest)))
        else:
            source = dataset.source or ""
            # By format: a store outlives the version that made it.
            manifest = prepare(SOURCES[source], embedded / f"{source}-{shards.FORMAT}")
        if dataset.calibration:
            verify(shards.read_manifest(Path(dataset.calibration.manifest)))
        manifests.append(manifest)
    return manifests


def _adopt(files: ParquetFiles, folder: Path) -> Manifest:
    key = hashlib.sha256(files.model_dump_json().encode()).hexdigest()[:12]
    return read_external(
        {TRAIN: files.train, HELDOUT: files.heldout},
        Columns(files.image, files.label, sample_id=None),
        files.classes,
        folder / f"{DATASET}-{key}",
    )


def absent_folder(dataset: DatasetJob) -> Path | None:
    """Return the folder of prepared data that a data set needs and that is not here, or None."""
    names = [dataset.manifest, dataset.calibration.manifest if dataset.calibration else None]
    folders = [Path(name) for name in names if name is not None]
    return next((folder for folder in folders if not folder.exists()), None)


def check_here(dataset: DatasetJob) -> None:
    """Raise DataError where the prepared data of a data set are not here at all."""
    folder = absent_folder(dataset)
    if folder is None:
        return
    is_main = str(folder) == str(Path(dataset.manifest or ""))
    source = (dataset.source if is_main else None) or "SOURCE"
    raise DataError(
        f"the data of {dataset.name} are not here",
        where=str(folder),
        next_command=prepare_command(source, folder),
    )


@dataclass(frozen=True)
class Preview:
    """What is known of a job before it runs: cells of the data that are here, and the others."""

    planned: Plan
    absent: LoadedJob  # with the data sets that are not here

    @property
    def absent_cells(self) -> list[str]:
        """Return one line a cell whose data are not here, so that it has no id yet."""
        grid = self.absent.job.grid
        return [
            f"{method.label:14}{dataset.name} {model.label or model.name} seed {seed}, "
            f"{dataset.setting_name}"
            for dataset in grid.datasets
            for seed in dict.fromkeys(grid.seeds)
            for model, methods in zip(grid.models, self.absent.methods, strict=True)
            for method in methods
        ]


def preview(loaded: LoadedJob, limit: int | None = None) -> Preview:
    """Plan a job and build its models once, without writing anything that stays.

    Data that are not here at all are passed over; what is here is checked.

    Raises:
        LotusRayError: anything that can be known to be wrong before running.
    """
    datasets = loaded.job.grid.datasets
    here = _with_datasets(loaded, [d for d in datasets if absent_folder(d) is None])
    absent = _with_datasets(loaded, [d for d in datasets if absent_folder(d) is not None])
    with tempfile.TemporaryDirectory() as scratch:
        planned = plan(here, locate_data(here, Path(scratch)), limit)
    check_models(networks(planned.groups))
    check_models(
        (
            m.spec(d.num_classes or 2, absent.job.offline),
            m.initial_checkpoint if d.num_classes else None,
            d.img_size,
        )
        for d in absent.job.grid.datasets
        for m in absent.job.grid.models
    )
    return Preview(planned, absent)


def _with_datasets(loaded: LoadedJob, datasets: list[DatasetJob]) -> LoadedJob:
    grid = loaded.job.grid.model_copy(update={"datasets": datasets})
    return replace(loaded, job=loaded.job.model_copy(update={"grid": grid}))


Network = tuple[ModelSpec, str | None, int]  # with its weights file and the size of its images


def networks(groups: Iterable[CellGroup]) -> list[Network]:
    """Return the networks of some groups."""
    return [(group.model, group.checkpoint, group.transform.img_size) for group in groups]


def check_models(wanted: Iterable[Network]) -> list[float]:
    """Build every network once and show it an image, without computing anything.

    Returns:
        For each one, the floating-point operations of its forward for an image.

    Raises:
        JobError: a network cannot be built, does not take the images, or not the checkpoint; or
            its pretrained weights are not here, and the job is offline.
    """
    checked: list[tuple[Network, float]] = []
    costs = []
    for network in wanted:
        known = [cost for other, cost in checked if other == network]
        costs.append(known[0] if known else _check_model(*network))
        checked.append((network, costs[-1]))
    return costs


def _check_model(model: ModelSpec, checkpoint: str | None, size: int) -> float:
    counter = FlopCounterMode(display=False)
    if model.offline and model.pretrained:
        pretrained.check_here(model.name, model.pretrained)
    with torch.device("meta"):
        network = build(model.untrained, "check")
        try:
            with counter:
                answer = network(torch.zeros(2, 3, size, size))
        except Exception as error:  # a foreign network raises anything
            raise JobError(
                f"model {model.name} does not take images of {size} pixels: "
                f"{str(error).splitlines()[0]}",
                where="grid.datasets[].img_size",
                next_command="give the model options: {img_size: …}, or change img_size",
            ) from error
    if answer.shape != (2, model.num_classes):
        raise JobError(f"model {model.name} answers with shape {tuple(answer.shape)}")
    if checkpoint:
        load_into(network, read_weights(Path(checkpoint)), where=checkpoint)
    return counter.get_total_flops() / 2


def describe(
    found: Preview, work_orders: Sequence[WorkOrder], rows: Mapping[str, Row]
) -> list[str]:
    """Return one line a cell, for `--dry-run`: missing, the status of its row, or no data."""
    left = {cell.cell_id for work_order in work_orders for cell in work_order.missing_cells}
    known = [
        f"{cell.cell_id}  {'missing' if cell.cell_id in left else rows[cell.cell_id].status:9}"
        f"{cell.label:14}{group.name}, {group.setting}"
        for group in found.planned.groups
        for cell in group.cells
    ]
    return known + [f"{'?':20}  {'no data':9}{cell}" for cell in found.absent_cells]


def absent_notes(found: Preview) -> list[str]:
    """Return one line for each data set that is not here, with the command that makes it."""
    notes = []
    for dataset in found.absent.job.grid.datasets:
        try:
            check_here(dataset)
        except DataError as error:
            notes.append(f"{error.what}: {error.where}; {error.next_command}")
    return list(dict.fromkeys(notes))
