"""Images of a source -> Parquet shards and a manifest. An interrupted run is resumed by shard.

Shards hold the encoded images unchanged. Their order is drawn from the sample ids, so any
contiguous part of a shard is a random sample of its split.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from lotus_ray.base import seeds
from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.check import count_classes, verify_bytes
from lotus_ray.data.prepared.hold_out import check_option, hold_out
from lotus_ray.data.prepared.index import write_index
from lotus_ray.data.prepared.manifest import (
    FORGET_IDS,
    INDEX,
    MANIFEST,
    Manifest,
    Shard,
    read_manifest,
    write_manifest,
)
from lotus_ray.data.prepared.shard_task import _DONE, Report, Run, ShardTask, run_here, writing
from lotus_ray.data.sources import SPLITS, Images, Source, prepare_command

ROWS_PER_SHARD = 2048  # 225 MB of ImageNet


def say_nothing(done: int, total: int, images: int) -> None:
    """Report nothing."""


def prepare(
    source: Source,
    destination: Path,
    root: Path | None = None,
    run: Run = run_here,
    report: Report = say_nothing,
    heldout: float | None = None,
) -> Manifest:
    """Write a source as shards and a manifest. The directory appears in one step.

    An interrupted run leaves its finished shards beside `destination`; the next run uses them. If
    several processes prepare the same destination, one works and the others wait.

    Args:
        source: an entry of SOURCES.
        destination: the directory to create. A complete one with a manifest is checked and kept.
        root: the folder with the source's files, if it needs any.
        run: writes shards in any order: here, or on a cluster that sees the same files.
        report: called after each shard.
        heldout: share of each class to hold out, for sources that can; None: as the files say.

    Returns:
        The manifest of `destination`.

    Raises:
        DataError: `destination` exists and is not a prepared data set, or is one of other files, or
            cannot be written; or files of the source are missing or invalid.
        JobError: `heldout` is given for a source that has held-out images of its own.
    """
    check_option(source, heldout)
    made_from = _made_from(root, heldout)
    if (destination / MANIFEST).exists():
        manifest = verify_bytes(_same(read_manifest(destination), source, made_from))
        if not (destination / INDEX).exists():  # an earlier version prepared it
            with writing(destination):
                write_index(manifest)
        return manifest
    with writing(destination.parent):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with _alone(destination):
        if (destination / MANIFEST).exists():  # by another process, while this one waited
            return _same(read_manifest(destination), source, made_from)
        if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
            raise DataError(
                "the destination exists and holds no manifest",
                where=str(destination),
                next_command=prepare_command(source.name, f"{destination}-new"),
            )
        # Absolute, because a process in another folder may write a shard.
        partial = destination.parent.absolute() / f".prepare-{destination.name}"
        try:
            images = _opened(source, root, heldout)
            _write(source.name, images, partial, run, report, made_from)
            partial.rename(destination)
        finally:
            if partial.exists() and not any(partial.glob(f"*{_DONE}")):
                shutil.rmtree(partial, ignore_errors=True)
    return read_manifest(destination)


def _made_from(root: Path | None, heldout: float | None) -> dict[str, str]:
    """Return the options that say which images a data set holds, as text."""
    return ({"root": str(root.absolute())} if root is not None else {}) | (
        {"heldout": f"{heldout:g}"} if heldout is not None else {}
    )


def _same(manifest: Manifest, source: Source, made_from: Mapping[str, str]) -> Manifest:
    """Return the manifest. Raise DataError if it is of another source, or of other options."""
    if manifest.dataset != source.name:
        raise DataError(
            f"the destination holds {manifest.dataset}",
            where=str(manifest.directory),
            next_command=prepare_command(source.name, f"{manifest.directory}-{source.name}"),
        )
    for name, value in made_from.items() if manifest.made_from else ():
        before = manifest.made_from.get(name)
        if before != value and not (name == "root" and before and _is_one(before, value)):
            raise DataError(
                f"the destination was made with --{name} {before}, not {value}"
                if before
                else f"the destination was made without --{name}",
                where=str(manifest.directory),
                next_command=prepare_command(source.name, f"{manifest.directory}-new")
                + f"   (or rm -r {manifest.directory} and the same command)",
            )
    return manifest


def _is_one(first: str, second: str) -> bool:
    """Return True if two paths lead to the same folder."""
    return Path(first).resolve() == Path(second).resolve()


def _opened(source: Source, root: Path | None, heldout: float | None) -> Images:
    """Open a source. Raise DataError of one line if its files are invalid."""
    try:
        images = source.open(root, heldout) if source.can_hold_out else source.open(root)
        images = hold_out(source, images, heldout, str(root))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{source.name} cannot be read: {reason}", where=str(root)) from error
    labels, ids = images.index["label"].to_numpy(), images.index["sample_id"]
    problems = {
        "two classes have one name": len(set(images.classes)) < len(images.classes),
        "a label is outside the classes": bool(
            ((labels < 0) | (labels >= len(images.classes))).any()
        ),
        "two images have one id": len(ids.unique()) < len(ids),
        "there is no image": len(ids) == 0,
    }
    for what, is_so in problems.items():
        if is_so:
            raise DataError(f"{source.name}: {what}", where=str(root))
    return images


def _write(
    name: str,
    images: Images,
    partial: Path,
    run: Run,
    report: Report,
    made_from: Mapping[str, str],
) -> None:
    """Write all shards and the manifest to `partial`, and remove files of earlier attempts."""
    with writing(partial):
        partial.mkdir(exist_ok=True)
    tasks = list(_tasks(images, partial))
    shards: list[Shard] = []
    for shard in run(tasks):
        shards.append(shard)
        report(len(shards), len(tasks), sum(shard.rows for shard in shards))
    positions = {task.file: index for index, task in enumerate(tasks)}
    shards.sort(key=lambda shard: positions[shard.file])
    with writing(partial):
        manifest = Manifest(
            partial,
            name,
            images.classes,
            tuple(shards),
            images.titles,
            images.notes,
            counts=count_classes(images.index, len(images.classes)),
            made_from=made_from,
        )
        if images.forget_ids:
            (partial / FORGET_IDS).write_text("\n".join(images.forget_ids) + "\n")
        write_index(manifest)
        write_manifest(manifest)
        kept = {MANIFEST, INDEX, FORGET_IDS, *positions}
        for path in partial.iterdir():
            if path.name not in kept:  # markers, offsets, and shards of an earlier attempt
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
    """Hold the lock of `destination`. The system releases the lock if its holder dies."""
    lock = destination.parent / f".prepare-{destination.name}.lock"
    with writing(lock):
        file = lock.open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
