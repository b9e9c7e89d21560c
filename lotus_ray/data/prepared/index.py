"""One file with the small columns and the byte offsets of all shards of a data set.

With it, a data set in a bucket is looked through by one request, where its shards would take
thousands; and a few images are read without the others.
"""

from __future__ import annotations

import uuid
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.manifest import (
    DIGEST,
    DIGEST_TYPE,
    INDEX,
    Manifest,
    content_digest,
    read_small,
)
from lotus_ray.data.prepared.offsets import read_offsets
from lotus_ray.data.prepared.parquet import open_parquet
from lotus_ray.data.prepared.shard_checks import prepare_again

_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("label", pa.int64()),
        (DIGEST, DIGEST_TYPE),
        ("shard", pa.int32()),
        ("row_group", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)


def write_index(manifest: Manifest) -> None:
    """Write the index of finished shards beside the manifest, in one step.

    Raises:
        DataError: a shard, or the offsets beside it, cannot be read.
    """
    tables = []
    for number, shard in enumerate(manifest.shards):
        uri = manifest.uri(shard)
        with open_parquet(uri) as file:
            small = read_small(manifest, shard, file)
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        offsets = read_offsets(Path(uri), len(small))
        if offsets is None:
            raise DataError("the offsets of a shard cannot be read", where=uri)
        columns = {
            "shard": np.full(len(small), number, np.int32),
            "row_group": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            "offset": offsets[:, 0],
            "size": offsets[:, 1],
        }
        for name, values in columns.items():
            small = small.append_column(name, pa.array(values))
        tables.append(small)
    table = pa.concat_tables(tables).cast(_SCHEMA)
    temporary = manifest.directory / f".{INDEX}.{uuid.uuid4().hex}"
    with pa.OSFile(str(temporary), "wb") as out, pa.ipc.new_file(out, _SCHEMA) as writer:
        writer.write_table(table)
    temporary.rename(manifest.directory / INDEX)


def read_index(manifest: Manifest) -> list[pa.Table] | None:
    """Return a table for each shard, or None if the data set has no index.

    Args:
        manifest: of the data set. The index is beside it.

    Returns:
        For each shard, its rows in stored order: sample_id, label, sha256, row_group, and offset
        and size of the image in bytes.

    Raises:
        DataError: the index is damaged, or of other shards.
    """
    path = manifest.directory / INDEX
    if not path.exists():
        return None
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all().cast(_SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(manifest, str(error).splitlines()[0]) from error
    if any(column.null_count for column in table.columns):
        raise _damaged(manifest, "a value is missing")
    ends = np.searchsorted(table["shard"].to_numpy(), np.arange(len(manifest.shards) + 1))
    parts = [table.slice(start, end - start) for start, end in pairwise(ends.tolist())]
    for shard, part in zip(manifest.shards, parts, strict=True):
        if content_digest(part) != shard.content:
            raise _damaged(manifest, f"ids, labels or digests of {shard.file} differ")
    return parts


def _damaged(manifest: Manifest, why: str) -> DataError:
    return DataError(
        f"the index of the data set is damaged: {why}",
        where=str(manifest.directory / INDEX),
        next_command=prepare_again(manifest),
    )


def group_sizes(part: pa.Table) -> list[int]:
    """Return how many rows each row group of a shard has, from its part of the index."""
    counts = np.bincount(part["row_group"].to_numpy())
    return [int(count) for count in counts]


def offsets_of(part: pa.Table) -> np.ndarray:
    """Return offset and size of each image of a shard in bytes, int64 [n, 2]."""
    return np.stack([part["offset"].to_numpy(), part["size"].to_numpy()], axis=1)
