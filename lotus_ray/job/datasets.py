"""Find the data of a job: prepared folders, embedded images, or external files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lotus_ray.base import plugins
from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.check import verify
from lotus_ray.data.prepared.external import DATASET, read_external
from lotus_ray.data.prepared.manifest import FORMAT, Columns, Manifest, read_manifest
from lotus_ray.data.prepared.remote import is_address, read_remote
from lotus_ray.data.prepared.repository import read_repository
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN, find, prepare_command
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.schema.dataset import DatasetJob, ParquetFiles


def locate_data(loaded: LoadedJob, embedded: Path) -> list[Manifest]:
    """Return the manifest of every data set of a job.

    Args:
        loaded: the job.
        embedded: folder for prepared embedded images, and for manifests of files elsewhere.

    Raises:
        DataError: a data set, or its calibration set, is missing or damaged.
    """
    manifests = []
    for dataset in loaded.job.grid.datasets:
        check_here(dataset)
        if dataset.parquet is not None:
            manifest = _read_in_place(dataset.parquet, embedded)
        elif dataset.manifest is not None:
            far = is_address(dataset.manifest)
            manifest = verify(
                read_remote(dataset.manifest, embedded)
                if far
                else read_manifest(Path(dataset.manifest))
            )
        else:
            source = dataset.source or ""
            # The format is in the name, because a later version may read the same store.
            manifest = prepare(find(source), embedded / f"{source}-{FORMAT}{_code_of(source)}")
        if dataset.calibration:
            verify(read_manifest(Path(dataset.calibration.manifest)))
        manifests.append(manifest)
    return manifests


def _code_of(source: str) -> str:
    """Return the end of a folder's name: of a plug-in, whose images may change with its code."""
    plugin = plugins.find("source", source)
    return "" if plugin is None else f"-{plugin.code.digest[:12]}"


def _read_in_place(files: ParquetFiles, folder: Path) -> Manifest:
    """Write the manifest of external files."""
    key = hashlib.sha256(files.model_dump_json(exclude_none=True).encode()).hexdigest()[:12]
    by_split = {TRAIN: files.train or [], HELDOUT: files.heldout or []}
    image, label, classes = files.image, files.label, files.classes
    if files.repository is not None:
        given = files.model_fields_set
        found = read_repository(
            files.repository,
            files.config,
            files.train_split,
            files.heldout_split,
            label if "label" in given else None,
        )
        by_split = {split: list(found.files[split]) for split in (TRAIN, HELDOUT)}
        image = image if "image" in given else found.image or image
        label = found.label or label
        classes = classes or (list(found.classes) if found.classes else None)
    return read_external(
        by_split, Columns(image, label, sample_id=None), classes, folder / f"{DATASET}-{key}"
    )


def absent_folder(dataset: DatasetJob) -> Path | None:
    """Return the first missing folder of prepared data that a data set needs, or None."""
    names = [dataset.manifest, dataset.calibration.manifest if dataset.calibration else None]
    folders = [Path(name) for name in names if name is not None and not is_address(name)]
    return next((folder for folder in folders if not folder.exists()), None)


def check_here(dataset: DatasetJob) -> None:
    """Raise DataError if a folder of prepared data is missing."""
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
