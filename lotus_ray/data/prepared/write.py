"""Images of a source -> Parquet shards and a manifest, shard by shard: a cut is resumed.

Shards hold encoded images as they came, in an order drawn from their sample ids, so that any
stretch of a shard is a random sample of its split.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from lotus_ray.base import seeds
from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.check import count_classes, verify_whole
from lotus_ray.data.prepared.manifest import (
    FORGET_IDS,
    MANIFEST,
    Manifest,
    Shard,
    read_manifest,
    write_manifest,
)
from lotus_ray.data.prepared.offsets import offsets_path
from lotus_ray.data.prepared.shard_task import _DONE, Report, Run, ShardTask, run_here, writing
from lotus_ray.data.sources import SPLITS, Images, Source, prepare_command

ROWS_PER_SHARD = 2048  # of ImageNet: 225 MB


def say_nothing(done: int, total: int, images: int) -> None:
    """Report nothing."""


def prepare(
    source: Source,
    destination: Path,
    root: Path | None = None,
    run: Run = run_here,
    report: Report = say_nothing,
) -> Manifest:
    """Write a source as shards and a manifest; the directory appears whole or not at all.

    What is finished when this is cut off lies beside `destination`, and is not done again. Of
    several that prepare one destination, one works and the others wait for it.

    Args:
        source: an entry of SOURCES.
        destination: the directory to create. A complete one with a manifest is checked and kept.
        root: the folder that holds its files, where it needs any.
        run: writes shards, in any order: here, or all over a cluster that sees the same files.
        report: told after each shard.

    Returns:
        The manifest of `destination`.

    Raises:
        DataError: `destination` exists and is not a prepared data set, or cannot be written; or
            the files of the source are missing or not what they should be.
    """
    if (destination / MANIFEST).exists():
        return _same(verify_whole(read_manifest(destination)), source)
    with writing(destination.parent):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with _alone(destination):
        if (destination / MANIFEST).exists():  # by another process, while this one waited
            return _same(read_manifest(destination), source)
        if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
            raise DataError(
                "the destination exists and holds no manifest",
                where=str(destination),
                next_command=prepare_command(source.name, f"{destination}-new"),
            )
        # Absolute: a shard may be written by a process that runs in another folder.
        partial = destination.parent.absolute() / f".prepare-{destination.name}"
        try:
            images = _opened(source, root)
            _write(source.name, images, partial, run, report)
            partial.rename(destination)
        finally:
            if partial.exists() and not any(partial.glob(f"*{_DONE}")):
                shutil.rmtree(partial, ignore_errors=True)
    return read_manifest(destination)


def _same(manifest: Manifest, source: Source) -> Manifest:
    if manifest.dataset != source.name:
        raise DataError(
            f"the destination holds {manifest.dataset}",
            where=str(manifest.directory),
            next_command=prepare_command(source.name, f"{manifest.directory}-{source.name}"),
        )
    return manifest


def _opened(source: Source, root: Path | None) -> Images:
    """Open a source; whatever is wrong with its files is said in one line."""
    try:
        images = source.open(root)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{source.name} cannot be read: {reason}", where=str(root)) from error
    labels, ids = images.index["label"].to_numpy(), images.index["sample_id"]
    problems = {
        "two classes have one name": len(set(images.classes)) < len(images.classes),
        "a label is of no class": bool(((labels < 0) | (labels >= len(images.classes))).any()),
        "two images have one id": len(ids.unique()) < len(ids),
        "there is no image": len(ids) == 0,
    }
    for what, is_so in problems.items():
        if is_so:
            raise DataError(f"{source.name}: {what}", where=str(root))
    return images


def _write(name: str, images: Images, partial: Path, run: Run, report: Report) -> None:
    with writing(partial):
        partial.mkdir(exist_ok=True)
    tasks = list(_tasks(images, partial))
    shards: list[Shard] = []
    for shard in run(tasks):
        shards.append(shard)
        report(len(shards), len(tasks), sum(shard.rows for shard in shards))
    places = {task.file: index for index, task in enumerate(tasks)}
    shards.sort(key=lambda shard: places[shard.file])
    with writing(partial):
        manifest = Manifest(
            partial,
            name,
            images.classes,
            tuple(shards),
            images.titles,
            images.notes,
            counts=count_classes(images.index, len(images.classes)),
        )
        if images.forget_ids:
            (partial / FORGET_IDS).write_text("\n".join(images.forget_ids) + "\n")
        write_manifest(manifest)
        kept = {MANIFEST, FORGET_IDS, *places, *(offsets_path(Path(file)).name for file in places)}
        for path in partial.iterdir():
            if path.name not in kept:  # finished markers, and shards of an earlier, other attempt
                path.unlink()


def _tasks(images: Images, folder: Path) -> Iterator[ShardTask]:
    for split in SPLITS:
        rows = np.flatnonzero(np.array(images.index["split"].to_pylist()) == split)
        keys = seeds.sample_keys(images.index["sample_id"].take(rows).to_pylist())
        order = rows[np.argsort(seeds.scores(keys, 0, "order of shards").numpy(), kind="stable")]
        for number, start in enumerate(range(0, len(order), ROWS_PER_SHARD)):
            index = images.index.take(order[start : start + ROWS_PER_SHARD])
            yield ShardTask(folder, f"{split}-{number:05d}.parquet", split, index, images.read)


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Wait until no other process prepares `destination`; the system ends the wait on a death."""
    lock = destination.parent / f".prepare-{destination.name}.lock"
    with writing(lock):
        file = lock.open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
