"""Which images of a data set are wanted, and where they lie: pieces of Parquet row groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lotus_ray.data.images import Transform, decode_all
from lotus_ray.data.parquet_files import open_parquet, reading
from lotus_ray.data.shards import DIGEST, Manifest, Shard, read_manifest, read_small
from lotus_ray.data.splits import Roles
from lotus_ray.errors import DataError


@dataclass(frozen=True)
class Piece:
    """Images of one row group: their places in it, and in the table of roles."""

    uri: str
    group: int
    places: np.ndarray  # [n], int64
    rows: np.ndarray  # [n], int64
    sample_ids: list[str]  # [n]
    image: str  # name of the column
    digests: list[bytes] | None = None  # [n], SHA-256 of the images; None in files read in place

    def decode(self, transform: Transform, threads: int = 1) -> dict[str, np.ndarray]:
        """Read and decode the images on some threads.

        Returns:
            `row` int64 [n], place in the table of roles, and `pixels` uint8 [n, H, W, 3].

        Raises:
            DataError: an image changed or cannot be decoded; the text names its id, file and row.
        """
        with open_parquet(self.uri) as file, reading(self.uri):
            table = file.read_row_group(self.group, columns=[self.image])
        images = table[self.image].take(pa.array(self.places)).combine_chunks()
        names = [
            f"sample {sample_id} ({self.uri}, row {place} of row group {self.group})"
            for sample_id, place in zip(self.sample_ids, self.places, strict=True)
        ]
        encoded = images.field("bytes").to_pylist()
        if self.digests is not None:
            check_bytes(encoded, self.digests, names)
        return {"row": self.rows, "pixels": decode_all(encoded, transform, names, threads)}


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


def wanted_pieces(directories: Iterable[Path], roles: Roles) -> list[Piece]:
    """Find the samples of a table of roles in some prepared data sets.

    Row groups that hold none of them are never read.
    """
    wanted = pa.array(roles.sample_ids, pa.string())
    return [
        piece
        for directory in directories
        for piece in _of_manifest(read_manifest(directory), wanted, roles)
    ]


def _of_manifest(manifest: Manifest, wanted: pa.Array, roles: Roles) -> Iterator[Piece]:
    for shard in manifest.shards:
        yield from _of_shard(manifest, shard, wanted, roles)


def _of_shard(manifest: Manifest, shard: Shard, wanted: pa.Array, roles: Roles) -> Iterator[Piece]:
    uri = manifest.uri(shard)
    with open_parquet(uri) as file:
        small = read_small(manifest, shard, file)
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    found = pc.index_in(small["sample_id"], value_set=wanted)
    rows = found.fill_null(-1).to_numpy().astype(np.int64)
    start = 0
    for group, size in enumerate(sizes):
        of_group = rows[start : start + size]
        places = np.flatnonzero(of_group >= 0)
        if len(places):
            targets = of_group[places]
            names = [roles.sample_ids[row] for row in targets]
            digests = None
            if not manifest.in_place:
                digests = small[DIGEST].take(pa.array(start + places)).to_pylist()
            yield Piece(uri, group, places, targets, names, manifest.columns.image, digests)
        start += size
