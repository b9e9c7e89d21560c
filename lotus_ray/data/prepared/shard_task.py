"""Write one shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.manifest import (
    DIGEST,
    FORMAT,
    SCHEMA,
    Shard,
    content_digest,
    sha256_of,
)
from lotus_ray.data.prepared.offsets import Probes
from lotus_ray.data.sources.images import Read

ROWS_PER_GROUP = 512  # rows that are read at a time


_DONE = ".json"  # suffix of the marker beside a finished shard


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: the rows of its index, and how to read the images."""

    folder: Path
    file: str
    split: str
    index: pa.Table
    read: Read

    def run(self) -> Shard:
        """Write the shard, unless it is already written.

        Raises:
            DataError: the shard cannot be written, or an image cannot be read.
        """
        path = self.folder / self.file
        done = self.folder / (self.file + _DONE)
        identity = _identity(self.index)
        if done.exists():
            result = json.loads(done.read_text())
            if result.pop("index") == identity and path.exists():
                return Shard(**result)
        small = []
        probes = Probes()
        with writing(path):
            with pq.ParquetWriter(
                path, SCHEMA, compression="none", use_dictionary=["label"]
            ) as writer:
                for group in range(0, len(self.index), ROWS_PER_GROUP):
                    table = _read_rows(self.index.slice(group, ROWS_PER_GROUP), self.read)
                    small.append(table.select(["sample_id", "label", DIGEST]))
                    probes.add(table["image"].combine_chunks().field("bytes").to_pylist())
                    writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            probes.write(path)
            shard = Shard(
                file=self.file,
                split=self.split,
                rows=len(self.index),
                bytes=path.stat().st_size,
                sha256=sha256_of(path),
                content=content_digest(pa.concat_tables(small)),
            )
            temporary = done.with_suffix(".part")
            temporary.write_text(json.dumps({**asdict(shard), "index": identity}))
            temporary.rename(done)
        return shard


Run = Callable[[Sequence[ShardTask]], Iterable[Shard]]


Report = Callable[[int, int, int], None]  # shards done, shards in all, images done


def run_here(tasks: Sequence[ShardTask]) -> Iterator[Shard]:
    """Write shards in this process, one after another."""
    for task in tasks:
        yield task.run()


def _read_rows(index: pa.Table, read: Read) -> pa.Table:
    """Read the images of some rows of an index; return rows of a shard."""
    images = [{"bytes": _read_one(row, read), "path": row["path"]} for row in index.to_pylist()]
    digests = [hashlib.sha256(image["bytes"]).digest() for image in images]
    return pa.table(
        {
            "sample_id": index["sample_id"],
            "image": images,
            "label": index["label"],
            DIGEST: digests,
        },
        schema=SCHEMA,
    )


def _read_one(row: dict[str, Any], read: Read) -> bytes:
    try:
        return read(row["file"], row["offset"], row["size"])
    except OSError as error:
        raise DataError(
            f"an image cannot be read: {error.strerror or error}", where=row["file"] or row["path"]
        ) from error


def _identity(index: pa.Table) -> str:
    """Return the SHA-256 of a shard's planned content and layout."""
    return hashlib.sha256(json.dumps([FORMAT, index.to_pydict()]).encode()).hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the disk into a DataError.

    Raises:
        DataError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write: {error.strerror or error}", where=str(path)) from error
