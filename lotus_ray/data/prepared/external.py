"""External Parquet files, such as those of the Hugging Face hub: read in place, not copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.columns import class_names, is_text
from lotus_ray.data.prepared.manifest import Columns, Manifest, Shard, write_manifest
from lotus_ray.data.prepared.parquet import (
    footer_digest,
    list_parquet,
    open_parquet,
    reading,
    same_bytes,
)
from lotus_ray.data.sources.labelled_table import sorted_classes

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
        classes: names in the order of labels; None takes the names in the files: of their
            schemas, or the labels themselves where those are text, sorted.
        directory: of the manifest. An older manifest is replaced.

    Returns:
        The manifest.

    Raises:
        DataError: a file is missing, torn, or would run code; it is both a training and a held-out
            file; no file names the classes; or two name different ones.
    """
    shards: list[Shard] = []
    named: dict[str, Sequence[str]] = {}  # classes that a file names, by address
    texts: set[str] = set()
    for split, patterns in files.items():
        for uri in dict.fromkeys(uri for pattern in patterns for uri in list_parquet(pattern)):
            address = _absolute(uri)
            with open_parquet(address) as file:
                shards.append(_shard(file, address, split))
                if stored := class_names(file, columns.label):
                    named[address] = stored
                elif not classes:
                    texts |= _text_labels(file, columns.label, address)
    _check_apart(shards)
    chosen = classes or _agreed(named) or sorted_classes(texts)
    if not chosen:
        raise DataError(
            "the files do not name their classes",
            where=shards[0].file if shards else str(directory),
            next_command="add classes: [...] to the data set, or to `forget` --classes cat,dog, in "
            "the order of labels",
        )
    names = tuple(str(name) for name in chosen)
    manifest = Manifest(directory, DATASET, names, tuple(shards), columns=columns)
    directory.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest)
    return manifest


def _shard(file: pq.ParquetFile, address: str, split: str) -> Shard:
    groups = range(file.num_row_groups)
    size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    digest = footer_digest(file)
    return Shard(address, split, file.metadata.num_rows, size, digest, digest)


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


def _text_labels(file: pq.ParquetFile, label: str, uri: str) -> set[str]:
    """Return the labels of a file that are text; none if they are numbers."""
    schema = file.schema_arrow
    if label not in schema.names or not is_text(schema.field(label).type):
        return set()
    with reading(uri):
        values = file.read(columns=[label])[label].cast(pa.string())
    return {name for name in pc.unique(values).to_pylist() if name is not None}


def _agreed(named: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the classes of the first file that names any.

    Raises:
        DataError: another file names a class that the first one lacks.
    """
    if not named:
        return ()
    first, classes = next(iter(named.items()))
    for uri, names in named.items():
        strange = [name for name in names if name not in classes]
        if strange:
            raise DataError(
                f"two files name different classes: {', '.join(strange[:5])} in one alone",
                where=f"{uri} and {first}",
                next_command="add classes: [...] to the data set, with those of all files",
            )
    return classes


def _check_apart(shards: Sequence[Shard]) -> None:
    """Raise DataError if a file, or a copy of it, is in two splits: it would be trained on."""
    seen: dict[str, list[Shard]] = defaultdict(list)  # by digest of the footer
    for shard in shards:
        for other in seen[shard.sha256]:
            if other.split != shard.split and shard.rows and same_bytes(other.file, shard.file):
                raise DataError(
                    f"the same images are {other.split} and {shard.split}",
                    where=" = ".join(dict.fromkeys((other.file, shard.file))),
                    nearest="patterns that match each file once",
                    next_command="change train or heldout; lotus-ray validate JOB.yaml",
                )
        seen[shard.sha256].append(shard)
