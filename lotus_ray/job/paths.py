"""Paths of a job: they begin in the current folder, and a file beside the job is pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lotus_ray.base.errors import JobError
from lotus_ray.job.schema.job import Job
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import KeyPath


def check_paths(job: Job, file: Path, document: Document) -> None:
    """Raise JobError if a path leads nowhere from here, and to a file from the job's folder.

    Args:
        job: the job.
        file: of the job.
        document: knows the line of each value.
    """
    for keys, name in _paths(job):
        beside = file.parent / name
        if "://" in name or Path(name).is_absolute() or Path(name).exists():
            continue
        if beside.exists():
            raise JobError(
                f"'{name}' is not in the current folder, where the paths of a job begin",
                where=document.where(keys),
                nearest=f"{beside}, beside the job",
                next_command=f"cd {file.parent} && lotus-ray validate {file.name}",
            )


def _paths(job: Job) -> Iterator[tuple[KeyPath, str]]:
    """Yield every path of files that a job reads."""
    for index, dataset in enumerate(job.grid.datasets):
        keys: KeyPath = ("grid", "datasets", index)
        parquet, calibration = dataset.parquet, dataset.calibration
        for more, name in (
            (("manifest",), dataset.manifest),
            (("forget", "ids"), dataset.forget.ids),
            (("forget", "by"), dataset.forget.by),
            (("retain", "without"), dataset.retain.without),
            (("calibration", "manifest"), calibration.manifest if calibration else None),
            (("parquet", "repository"), parquet.repository if parquet else None),
        ):
            if name is not None:
                yield (*keys, *more), name
        for split in ("train", "heldout") if parquet else ():
            for number, name in enumerate(getattr(parquet, split) or ()):
                if "*" not in name:
                    yield (*keys, "parquet", split, number), name
    for index, model in enumerate(job.grid.models):
        if model.initial_checkpoint is not None:
            yield ("grid", "models", index, "initial_checkpoint"), model.initial_checkpoint
