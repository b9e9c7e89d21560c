"""Which images of a data set are wanted, and where they lie: the row groups of Parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.transform import Transform, decode_all
from lotus_ray.data.prepared.manifest import DIGEST, Manifest, Shard, read_manifest, read_small
from lotus_ray.data.prepared.offsets import read_offsets, read_stretches
from lotus_ray.data.prepared.parquet import open_parquet, reading
from lotus_ray.data.roles.table import Roles

ROWS_AT_A_TIME = 64  # read and decoded together: 17 MB of ImageNet's JPEGs and their pixels


@dataclass(frozen=True)
class Encoded:
    """Images as they lie in a file, n of them."""

    sample_ids: list[str]
    rows: np.ndarray  # [n], int64: place in the table of roles
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
            DataError: an image cannot be decoded; the text names its id, file and row.
        """
        return decode_all(self.images, transform, self.where, threads)


@dataclass(frozen=True)
class RowGroupImages:
    """Images of one row group: their places in it, ascending, and in the table of roles."""

    uri: str
    group: int
    places: np.ndarray  # [n], int64
    rows: np.ndarray  # [n], int64
    sample_ids: list[str]  # [n]
    image: str  # name of the column
    digests: list[bytes] | None = None  # [n], SHA-256 of the images; None in files read in place
    offsets: np.ndarray | None = None  # int64 [n, 2]: offset and size of each in the file, if known
    group_rows: int = 0  # of the whole row group

    def __len__(self) -> int:
        return len(self.sample_ids)

    def only(self, chosen: np.ndarray) -> RowGroupImages:
        """Return a part of the row group: `chosen` [n] bool, or places in it."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        names = [self.sample_ids[place] for place in index]
        digests = self.digests and [self.digests[place] for place in index]
        return replace(
            self,
            places=self.places[index],
            rows=self.rows[index],
            sample_ids=names,
            digests=digests,
            offsets=None if self.offsets is None else self.offsets[index],
        )

    def read(self) -> Iterator[Encoded]:
        """Read the images, a bounded number at a time, in the order of places.

        Raises:
            DataError: the file is torn, or an image changed; the text names its id, file and row.
        """
        with reading(self.uri):
            if self.offsets is not None and 2 * len(self) < self.group_rows:
                yield from self._read_alone(self.offsets)
            else:
                yield from self._read_group()

    def _read_alone(self, offsets: np.ndarray) -> Iterator[Encoded]:
        """Read nothing but the images; where one is not in its place, the group after all."""
        images = read_stretches(self.uri, offsets.tolist())
        for start in range(0, len(self), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            try:
                encoded = self._encoded(part, list(islice(images, ROWS_AT_A_TIME)))
            except DataError:
                yield from self.only(np.arange(start, len(self)))._read_group()
                return
            yield encoded

    def _read_group(self) -> Iterator[Encoded]:
        """Read the whole row group and take the images."""
        with open_parquet(self.uri) as file:
            batches = file.iter_batches(
                ROWS_AT_A_TIME, row_groups=[self.group], columns=[self.image]
            )
            start = 0
            for batch in batches:
                low, high = np.searchsorted(self.places, [start, start + len(batch)])
                if low < high:
                    chosen = pa.array(self.places[low:high] - start)
                    images = batch.column(0).take(chosen).field("bytes").to_pylist()
                    yield self._encoded(slice(low, high), images)
                start += len(batch)

    def _encoded(self, part: slice, images: list[bytes]) -> Encoded:
        ids = self.sample_ids[part]
        where = [
            f"sample {sample_id} ({self.uri}, row {place} of row group {self.group})"
            for sample_id, place in zip(ids, self.places[part], strict=True)
        ]
        if self.digests is not None:
            check_bytes(images, self.digests[part], where)
        return Encoded(ids, self.rows[part], images, where)


def check_bytes(
    encoded: Sequence[bytes | None], digests: Sequence[bytes], names: Sequence[str]
) -> None:
    """Look whether images are still those that were prepared.

    Args:
        encoded: N images as they were read.
        digests: their SHA-256, 32 bytes each.
        names: sample id, file and row, for the error.

    Raises:
        DataError: an image differs; the text names it.
    """
    for content, digest, name in zip(encoded, digests, names, strict=True):
        if hashlib.sha256(content or b"").digest() != digest:
            raise DataError(
                "an image changed since it was prepared",
                where=name,
                next_command="remove the prepared data, and run lotus-ray prepare again",
            )


def wanted_row_groups(directories: Iterable[Path], roles: Roles) -> list[RowGroupImages]:
    """Find the samples of a table of roles in some prepared data sets, in the order of storage.

    Row groups that hold none of them are never read.
    """
    wanted = pa.array(roles.sample_ids, pa.string())
    return [
        row_group
        for directory in directories
        for row_group in _of_manifest(read_manifest(directory), wanted, roles)
    ]


def stored_order(row_groups: Sequence[RowGroupImages]) -> np.ndarray:
    """Return the rows of some row groups, int64 [n], in stored order."""
    return np.concatenate([np.empty(0, np.int64), *(row_group.rows for row_group in row_groups)])


def _of_manifest(manifest: Manifest, wanted: pa.Array, roles: Roles) -> Iterator[RowGroupImages]:
    for shard in manifest.shards:
        yield from _of_shard(manifest, shard, wanted, roles)


def _of_shard(
    manifest: Manifest, shard: Shard, wanted: pa.Array, roles: Roles
) -> Iterator[RowGroupImages]:
    uri = manifest.uri(shard)
    with open_parquet(uri) as file:
        small = read_small(manifest, shard, file)
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    result = pc.index_in(small["sample_id"], value_set=wanted)
    rows = result.fill_null(-1).to_numpy().astype(np.int64)
    offsets = None if manifest.is_external else read_offsets(Path(uri), len(rows))
    start = 0
    for group, size in enumerate(sizes):
        of_group = rows[start : start + size]
        places = np.flatnonzero(of_group >= 0)
        if len(places):
            targets = of_group[places]
            names = [roles.sample_ids[row] for row in targets]
            digests = None
            if not manifest.is_external:
                digests = small[DIGEST].take(pa.array(start + places)).to_pylist()
            yield RowGroupImages(
                uri,
                group,
                places,
                targets,
                names,
                manifest.columns.image,
                digests,
                None if offsets is None else offsets[start + places],
                size,
            )
        start += size
