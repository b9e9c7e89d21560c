"""Room for decoded images on a node: which files are in use, and removal of those that are not.

A process says in a small file which files it uses, and holds a lock on that. The system releases
the lock when the process ends, even if it is killed. A file that is removed while a process has it
mapped stays whole for that process.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from lotus_ray.data.pixels.cache_space import CacheSpace

SUFFIX = ".arrow"  # of a file of decoded images
_USE = ".use-"


class Use:
    """Says that this process uses some files, until it is ended, forgotten, or the process ends."""

    def __init__(self, cache_space: CacheSpace, paths: Collection[Path]) -> None:
        """Begin. A process that is just making room may still remove a file.

        Args:
            cache_space: where the files are.
            paths: of the files.
        """
        note = cache_space.memory / f"{_USE}{uuid.uuid4().hex}"
        unfinished = note.with_name(f".new{note.name}")
        file = unfinished.open("x")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):  # without room for this text all files count as used
            file.write(json.dumps([str(path) for path in paths]))
            file.flush()
        unfinished.rename(note)  # others see it locked and whole
        self._paths = paths
        self.end = weakref.finalize(self, _end, file, note, paths)

    def is_whole(self) -> bool:
        """Return True if all files are there."""
        return all(path.exists() for path in self._paths)


def make_room(
    cache_space: CacheSpace,
    sizes: Sequence[int],
    needed: Mapping[Path, float],
    all_or_nothing: bool = True,
) -> list[Path]:
    """Remove files that no process uses, if new files do not fit: those used longest ago first.

    The caller holds the lock of the node's files, and has mapped only files that it needs.

    Args:
        cache_space: where the files are.
        sizes: bytes of each new file. Each goes as a whole to memory or to the disk.
        needed: which part of some files the caller needs. These go last, the one with the smallest
            part first; files that are needed as a whole stay.
        all_or_nothing: remove nothing if that does not give enough room.

    Returns:
        The files that were removed. Their space may be free only when other processes close them.
    """
    lacking = sum(sizes) + max(sizes, default=0) - _left(cache_space)  # a gap may stay in memory
    if lacking <= 0 or (used := _used(cache_space)) is None:
        return []
    unused = _in_turn(cache_space, used, needed)
    # The needed part of a file that goes has to be written again.
    gained = sum(file.size * (1 - file.needed) for file in unused)
    if all_or_nothing and sum(sizes) - _left(cache_space) > gained:
        return []
    removed = []
    for file in unused:
        if lacking <= 0:
            break
        file.path.unlink(missing_ok=True)
        removed.append(file.path)
        lacking -= file.size
    return removed


class _File(NamedTuple):
    """A file that may be removed. They sort in the order in which they go."""

    needed: float  # the part of it that is needed
    used: int  # when it was used last, in nanoseconds
    path: Path
    size: int


def _left(cache_space: CacheSpace) -> int:
    return cache_space.memory_left() + cache_space.disk_left()


def _used(cache_space: CacheSpace) -> set[Path] | None:
    """Return the files that processes use; None if one of them could not say which."""
    used = set[Path]()
    for note in cache_space.memory.glob(f"{_USE}*"):
        with suppress(FileNotFoundError), note.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                note.unlink()  # of a process that was killed
            except BlockingIOError:
                try:
                    used |= set(map(Path, json.load(file)))
                except ValueError:
                    return None
    return used


def _in_turn(cache_space: CacheSpace, used: set[Path], needed: Mapping[Path, float]) -> list[_File]:
    """Return the files that may be removed, the first to go first."""
    found = []
    for path in _files(cache_space):
        with suppress(FileNotFoundError):
            if path not in used and (part := needed.get(path, 0.0)) < 1:
                status = path.stat()
                found.append(_File(part, status.st_mtime_ns, path, status.st_size))
    return sorted(found)


def _files(cache_space: CacheSpace) -> Iterator[Path]:
    for folder in {cache_space.memory, cache_space.disk}:
        yield from folder.glob(f"*/*{SUFFIX}")


def _end(file: IO[str], note: Path, paths: Collection[Path]) -> None:
    """End a use. The files become the ones that were used last."""
    for path in paths:
        with suppress(OSError):
            os.utime(path)
    with suppress(OSError):
        note.unlink(missing_ok=True)
    with suppress(OSError):  # a text that could not be written is tried once more here
        file.close()
