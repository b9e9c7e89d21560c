"""Read a few images of a data set by their ids, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from lotus_ray.data.prepared.columns import encoded_images
from lotus_ray.data.prepared.manifest import DIGEST, INDEX, Manifest
from lotus_ray.data.prepared.offsets import read_ranges
from lotus_ray.data.prepared.parquet import open_parquet, reading


def find_images(manifest: Manifest, wanted: Collection[str]) -> dict[str, bytes]:
    """Return encoded images by id. Those that are missing, or changed, are left out.

    Args:
        manifest: of the data set.
        wanted: ids of images.

    Raises:
        DataError: a file cannot be read.
    """
    if manifest.is_external:
        return _in_place(manifest, set(wanted))
    path = manifest.directory / INDEX
    with reading(str(path), "the index of the data set cannot be read"):
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        found = table.filter(pc.is_in(table["sample_id"], pa.array(list(wanted), pa.string())))
    images: dict[str, bytes] = {}
    for number, shard in enumerate(manifest.shards):
        rows = found.filter(pc.equal(found["shard"], number)).sort_by("offset").to_pylist()
        uri = manifest.uri(shard)
        with reading(uri):
            contents = list(read_ranges(uri, [(row["offset"], row["size"]) for row in rows]))
        for row, content in zip(rows, contents, strict=True):
            if hashlib.sha256(content).digest() == row[DIGEST]:
                images[row["sample_id"]] = content
    return images


def _in_place(manifest: Manifest, wanted: set[str]) -> dict[str, bytes]:
    """Return images of external files, whose ids are made of file and row."""
    images: dict[str, bytes] = {}
    for shard in manifest.shards:
        stem = f"{manifest.file_id(shard)}:"
        own = [name for name in wanted if name.startswith(stem)]
        rows = sorted(int(name.removeprefix(stem)) for name in own)
        if not rows:
            continue
        uri, start = manifest.uri(shard), 0
        with reading(uri), open_parquet(uri) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                here = [row for row in rows if start <= row < start + count]
                if here:
                    column = file.read_row_group(group, columns=[manifest.columns.image]).column(0)
                    chosen = pa.array([row - start for row in here])
                    read = encoded_images(column.combine_chunks(), chosen)
                    images |= {
                        f"{stem}{row}": image or b"" for row, image in zip(here, read, strict=True)
                    }
                start += count
    return images
