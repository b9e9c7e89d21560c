"""External Parquet files, such as those of the Hugging Face hub: read in place, not copied."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.manifest import Columns, Manifest, Shard, write_manifest
from lotus_ray.data.prepared.parquet import footer_digest, list_parquet, open_parquet

DATASET = "parquet"


def read_external(
    files: Mapping[str, Sequence[str]],
    columns: Columns,
    classes: Sequence[str] | None,
    directory: Path,
) -> Manifest:
    """Read the footers of some Parquet files and write a manifest that lists the files.

    Args:
        files: addresses, folders or patterns of the files, by split.
        columns: names of the image column (a struct with `bytes`) and of the label column.
        classes: names in the order of labels; None takes the names in the files.
        directory: of the manifest. An older manifest is replaced.

    Returns:
        The manifest.

    Raises:
        DataError: a file is missing, torn, or would run code; or no file names the classes.
    """
    shards = []
    for split, patterns in files.items():
        for uri in dict.fromkeys(uri for pattern in patterns for uri in list_parquet(pattern)):
            with open_parquet(_absolute(uri)) as file:
                classes = classes or _class_names(file, columns.label)
                digest = footer_digest(file)
                size = sum(
                    file.metadata.row_group(g).total_byte_size for g in range(file.num_row_groups)
                )
                rows = file.metadata.num_rows
            shards.append(Shard(_absolute(uri), split, rows, size, digest, digest))
    if not classes:
        raise DataError(
            "the files do not name their classes",
            where=shards[0].file if shards else str(directory),
            next_command="add classes: [...] to the data set, in the order of labels",
        )
    names = tuple(str(name) for name in classes)
    manifest = Manifest(directory, DATASET, names, tuple(shards), columns=columns)
    directory.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest)
    return manifest


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


def _class_names(file: pq.ParquetFile, label: str) -> list[str] | None:
    """Return the class names that the hub's own writer stores in a file, or None."""
    stored = (file.metadata.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stored or b"null")["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names]
