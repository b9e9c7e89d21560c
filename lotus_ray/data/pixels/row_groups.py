"""Read images from a row group of a Parquet file, and check their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.transform import Transform, decode_all
from lotus_ray.data.prepared.columns import encoded_images
from lotus_ray.data.prepared.offsets import read_ranges
from lotus_ray.data.prepared.parquet import open_parquet, reading

ROWS_AT_A_TIME = 64  # read and decoded together: 17 MB of ImageNet's JPEGs and their pixels


@dataclass(frozen=True)
class Encoded:
    """Encoded images as a file holds them, n of them."""

    sample_ids: list[str]
    rows: np.ndarray  # [n], int64: row in the table of roles
    images: list[bytes]
    where: list[str]  # sample, file and row, for errors

    def __len__(self) -> int:
        return len(self.sample_ids)

    def part(self, part: slice) -> Encoded:
        """Return some of the images."""
        return Encoded(self.sample_ids[part], self.rows[part], self.images[part], self.where[part])

    def decode(self, transform: Transform, threads: int = 1) -> np.ndarray:
        """Return pixels, uint8 [n, 3, H, W].

        Raises:
            DataError: an image cannot be decoded. The text names its id, file and row.
        """
        return decode_all(self.images, transform, self.where, threads)

    def decode_each(
        self, transform: Transform, threads: int = 1
    ) -> tuple[np.ndarray, list[str | None]]:
        """Return pixels, uint8 [n, 3, H, W], 0 for bad images, and why each bad image is bad."""
        errors: list[str | None] = [None] * len(self)
        try:
            return self.decode(transform, threads), errors
        except DataError:
            pixels = np.zeros((len(self), *transform.shape), dtype=np.uint8)
        for index in range(len(self)):
            try:
                pixels[index] = self.part(slice(index, index + 1)).decode(transform)[0]
            except DataError as error:
                errors[index] = str(error)
        return pixels, errors


@dataclass(frozen=True)
class RowGroupImages:
    """Images of one row group, by ascending index in it."""

    uri: str
    group: int
    indices: np.ndarray  # [n], int64: index of each image in the row group
    rows: np.ndarray  # [n], int64: row of each image in the table of roles
    sample_ids: list[str]  # [n]
    image: str  # name of the column
    digests: list[bytes] | None = None  # [n], SHA-256 of the images; None in external files
    offsets: np.ndarray | None = None  # int64 [n, 2]: offset and size of each in the file
    group_rows: int = 0  # number of rows in the row group

    def __len__(self) -> int:
        return len(self.sample_ids)

    def only(self, chosen: np.ndarray) -> RowGroupImages:
        """Return a part of the images: `chosen` is a mask, bool [n], or positions in `rows`."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        names = [self.sample_ids[i] for i in index]
        digests = self.digests and [self.digests[i] for i in index]
        return replace(
            self,
            indices=self.indices[index],
            rows=self.rows[index],
            sample_ids=names,
            digests=digests,
            offsets=None if self.offsets is None else self.offsets[index],
        )

    def read(self) -> Iterator[Encoded]:
        """Read the images by ascending index, ROWS_AT_A_TIME at a time.

        Raises:
            DataError: the file is torn, or an image changed. The text names its id, file and row.
        """
        with reading(self.uri):
            are_few = 2 * len(self) < self.group_rows or "://" in self.uri
            if self.offsets is not None and are_few:
                yield from self._read_alone(self.offsets)
            else:
                yield from self._read_group()

    def _read_alone(self, offsets: np.ndarray) -> Iterator[Encoded]:
        """Read only these images, by offset. If an offset is wrong, read the row group."""
        images = read_ranges(self.uri, offsets.tolist())
        for start in range(0, len(self), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            try:
                encoded = self._encoded(part, list(islice(images, ROWS_AT_A_TIME)))
            except DataError:
                yield from self.only(np.arange(start, len(self)))._read_group()
                return
            yield encoded

    def _read_group(self) -> Iterator[Encoded]:
        """Read the full row group and take the images."""
        with open_parquet(self.uri) as file:
            batches = file.iter_batches(
                ROWS_AT_A_TIME, row_groups=[self.group], columns=[self.image]
            )
            start = 0
            for batch in batches:
                low, high = np.searchsorted(self.indices, [start, start + len(batch)])
                if low < high:
                    chosen = pa.array(self.indices[low:high] - start)
                    images = encoded_images(batch.column(0), chosen)
                    yield self._encoded(slice(low, high), images)
                start += len(batch)

    def _encoded(self, part: slice, images: Sequence[bytes | None]) -> Encoded:
        ids = self.sample_ids[part]
        where = [
            f"sample {sample_id} ({self.uri}, row {index} of row group {self.group})"
            for sample_id, index in zip(ids, self.indices[part], strict=True)
        ]
        if self.digests is not None:
            check_bytes(images, self.digests[part], where)
        return Encoded(ids, self.rows[part], [image or b"" for image in images], where)


def check_bytes(
    encoded: Sequence[bytes | None], digests: Sequence[bytes], names: Sequence[str]
) -> None:
    """Check that images did not change since they were prepared.

    Args:
        encoded: N encoded images.
        digests: their SHA-256, 32 bytes each.
        names: sample id, file and row of each, for the error.

    Raises:
        DataError: an image changed. The text names it.
    """
    for content, digest, name in zip(encoded, digests, names, strict=True):
        if hashlib.sha256(content or b"").digest() != digest:
            raise DataError(
                "an image changed since it was prepared",
                where=name,
                next_command="remove the prepared data, and run lotus-ray prepare again",
            )
