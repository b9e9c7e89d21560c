"""Decode images of one row group into one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lotus_ray.data.pixels.image_file import Batch, write_images
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform


@dataclass(frozen=True)
class DecodeTask:
    """One file to write: the images of a row group."""

    row_group: RowGroupImages
    path: Path
    transform: Transform
    keep_going: bool  # after an image that cannot be decoded
    spills: bool = False  # to the disk, because there is no room in memory

    def run(self, threads: int = 1) -> int:
        """Write the file in one step; return how many images it holds.

        Args:
            threads: that decode.

        Raises:
            DataError: an image cannot be decoded, or the file cannot be written.
        """
        write_images(self.path, self.transform, len(self.row_group), self._batches(threads))
        return len(self.row_group)

    def _batches(self, threads: int) -> Iterator[Batch]:
        for encoded in self.row_group.read():
            if self.keep_going:
                pixels, errors = encoded.decode_each(self.transform, threads)
            else:
                pixels, errors = encoded.decode(self.transform, threads), [None] * len(encoded)
            yield Batch(encoded.sample_ids, pixels, errors)


Decode = Callable[[Sequence[DecodeTask]], Iterable[int]]  # yields numbers of images, file by file


def decode_here(tasks: Sequence[DecodeTask], threads: int = 1) -> Iterable[int]:
    """Run tasks in this process, one after another, each on `threads` threads."""
    return (task.run(threads) for task in tasks)


def spilled(tasks: Sequence[DecodeTask]) -> str:
    """Return the part of a message that says which images go to the disk; empty if none does."""
    to_disk = [task for task in tasks if task.spills]
    if not to_disk:
        return ""
    images, folder = sum(len(task.row_group) for task in to_disk), to_disk[0].path.parents[1].parent
    why = "decoded_memory_gb, /dev/shm or the free memory leaves no room"
    return f"; {images:,} of them are kept on the disk, in {folder}: {why}"


def announcing(decode: Decode, say: Callable[[str], None]) -> Decode:
    """Return a function that decodes, and first says how many images."""

    def announce(tasks: Sequence[DecodeTask]) -> Iterable[int]:
        if tasks:
            images = sum(len(task.row_group) for task in tasks)
            say(f"decoding {images:,} images{spilled(tasks)}")
        return decode(tasks)

    return announce
