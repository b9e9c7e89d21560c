"""Find the row groups of Parquet files that hold the images of a table of roles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.prepared.index import group_sizes, offsets_of, read_index
from lotus_ray.data.prepared.manifest import DIGEST, Manifest, Shard, read_manifest, read_small
from lotus_ray.data.prepared.parquet import open_parquet
from lotus_ray.data.roles.table import Roles


def wanted_row_groups(directories: Iterable[Path], roles: Roles) -> list[RowGroupImages]:
    """Find the samples of a table of roles in prepared data sets, in the order of storage.

    Row groups without such samples are left out, and so never read.

    Args:
        directories: of the prepared data sets.
        roles: the table of roles.

    Raises:
        DataError: a manifest or a shard cannot be read.
    """
    wanted = pa.array(roles.sample_ids, pa.string())
    return [
        row_group
        for directory in directories
        for row_group in _of_manifest(read_manifest(directory), wanted, roles)
    ]


def stored_order(row_groups: Sequence[RowGroupImages]) -> np.ndarray:
    """Return the rows of some row groups in the order of storage, int64 [n]."""
    return np.concatenate([np.empty(0, np.int64), *(row_group.rows for row_group in row_groups)])


def _of_manifest(manifest: Manifest, wanted: pa.Array, roles: Roles) -> Iterator[RowGroupImages]:
    index = read_index(manifest)
    for number, shard in enumerate(manifest.shards):
        if index is None:
            with open_parquet(manifest.uri(shard)) as file:
                small = read_small(manifest, shard, file)
                sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            yield from _of_shard(manifest, shard, small, sizes, None, wanted, roles)
        else:
            part = index[number]
            sizes, offsets = group_sizes(part), offsets_of(part)
            yield from _of_shard(manifest, shard, part, sizes, offsets, wanted, roles)


def _of_shard(
    manifest: Manifest,
    shard: Shard,
    small: pa.Table,
    sizes: Sequence[int],
    offsets: np.ndarray | None,
    wanted: pa.Array,
    roles: Roles,
) -> Iterator[RowGroupImages]:
    """Yield the wanted images of each row group of a shard that has any.

    Args:
        manifest: of the data set.
        shard: the shard.
        small: sample_id and sha256 of its rows, in order.
        sizes: rows of each row group.
        offsets: offset and size of each image in the file, int64 [n, 2], where they are known.
        wanted: sample ids of the table of roles.
        roles: the table of roles.
    """
    uri = manifest.uri(shard)
    result = pc.index_in(small["sample_id"], value_set=wanted)
    rows = result.fill_null(-1).to_numpy().astype(np.int64)
    start = 0
    for group, size in enumerate(sizes):
        of_group = rows[start : start + size]
        indices = np.flatnonzero(of_group >= 0)
        if len(indices):
            targets = of_group[indices]
            names = [roles.sample_ids[row] for row in targets]
            digests = None
            if not manifest.is_external:
                digests = small[DIGEST].take(pa.array(start + indices)).to_pylist()
            yield RowGroupImages(
                uri,
                group,
                indices,
                targets,
                names,
                manifest.columns.image,
                digests,
                None if offsets is None else offsets[start + indices],
                size,
            )
        start += size
