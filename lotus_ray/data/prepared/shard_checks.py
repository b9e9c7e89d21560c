"""Checks of one shard: schema, labels, and agreement with its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.data.prepared.columns import WANTED, is_image, is_label, rows_without_bytes
from lotus_ray.data.prepared.manifest import (
    DIGEST,
    DIGEST_TYPE,
    Manifest,
    Shard,
    content_digest,
    read_small,
)
from lotus_ray.data.prepared.parquet import footer_digest, open_parquet
from lotus_ray.data.sources import SPLITS, prepare_command


def read_shard(manifest: Manifest, shard: Shard) -> pa.Table:
    """Check everything but the images of a shard; return sample_id, label, split and sha256.

    Raises:
        DataError: a check failed.
    """
    try:
        return _checked(manifest, shard)
    except DataError as error:
        error.next_command = error.next_command or prepare_again(manifest)
        raise


def read_part(manifest: Manifest, shard: Shard, part: pa.Table) -> pa.Table:
    """Check the labels of a shard's part of the index; return what `read_shard` returns.

    Raises:
        DataError: a label is no class.
    """
    small = part.select(["sample_id", "label", DIGEST])
    check_labels_in_range(small, manifest, manifest.uri(shard))
    return _with_split(small, shard)


def _with_split(small: pa.Table, shard: Shard) -> pa.Table:
    return small.add_column(2, "split", pa.repeat(shard.split, len(small)))


def _checked(manifest: Manifest, shard: Shard) -> pa.Table:
    """Check schema, nulls, labels and digest of a shard; return its small columns."""
    uri = manifest.uri(shard)
    with open_parquet(uri) as file:
        _check_schema(file, manifest, shard)
        small = read_small(manifest, shard, file)
        for name in small.column_names:
            nulls = small[name].null_count
            if nulls and not (manifest.is_external and name == DIGEST):
                ours = manifest.columns.label if name == "label" else name
                raise DataError(f"column {ours} has {nulls} nulls", where=uri)
        check_labels_in_range(small, manifest, uri)
        _check_unchanged(small, file, manifest, shard)
    return _with_split(small, shard)


def _check_schema(file: pq.ParquetFile, manifest: Manifest, shard: Shard) -> None:
    """Raise DataError if a column is missing or has a wrong type, or the split is unknown."""
    where, columns = manifest.uri(shard), manifest.columns
    schema = file.schema_arrow
    wanted: list[tuple[str, Callable[[pa.DataType], bool]]] = [
        (columns.label, is_label if manifest.is_external else pa.types.is_integer),
        (columns.image, is_image),
    ]
    if columns.sample_id is not None:
        wanted += [(columns.sample_id, pa.types.is_string), (DIGEST, DIGEST_TYPE.equals)]
    for name, is_right in wanted:
        if name not in schema.names:
            raise DataError(
                f"there is no column {name}", where=where, nearest=nearest(name, schema.names)
            )
        if not is_right(schema.field(name).type):
            raise DataError(
                f"column {name} is {schema.field(name).type}", where=where, nearest=WANTED
            )
    without = rows_without_bytes(file, columns.image)
    if without and without == shard.rows:
        raise DataError(
            f"{columns.image}.bytes is null in {without} rows: the file holds paths, not images",
            where=where,
            nearest=WANTED,
            next_command="embed the images in the file, or lotus-ray prepare image_folder "
            "DEST --root LIST.csv",
        )
    if shard.split not in SPLITS:
        raise DataError(
            f"unknown split '{shard.split}'", where=where, nearest=f"one of {', '.join(SPLITS)}"
        )


def check_labels_in_range(small: pa.Table, manifest: Manifest, uri: str) -> None:
    """Raise DataError if a label of `small` (sample_id, label) is not one of the classes."""
    values = small["label"].to_numpy()
    wrong = np.flatnonzero((values < 0) | (values >= len(manifest.classes)))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"label {values[first]} of {small['sample_id'][first]} is outside "
            f"0 … {len(manifest.classes) - 1}",
            where=f"{uri}, row {first}, column {manifest.columns.label}",
        )


def _check_unchanged(
    small: pa.Table, file: pq.ParquetFile, manifest: Manifest, shard: Shard
) -> None:
    """Raise DataError if a shard differs from the manifest. Images are not read."""
    if len(small) != shard.rows:
        raise changed_error(manifest, shard, f"{len(small)} rows", str(shard.rows))
    if manifest.is_external:
        result, recorded = footer_digest(file), shard.sha256
    else:
        size, _ = file_stamp(manifest, shard)
        if size != shard.bytes and not manifest.is_remote:
            raise changed_error(manifest, shard, f"{size} bytes", str(shard.bytes))
        result, recorded = content_digest(small), shard.content
    if result != recorded:
        what = "end of file" if manifest.is_external else "ids, labels and digests of images"
        raise changed_error(manifest, shard, f"{what} {result[:12]}…", f"{recorded[:12]}…")


def first_difference(
    counts: tuple[int, ...], recorded: tuple[int, ...], classes: tuple[str, ...]
) -> str:
    """Return the first difference between counts of classes and a manifest's, for errors."""
    for index, name in enumerate(classes):
        listed = recorded[index] if index < len(recorded) else None
        if counts[index] != listed:
            return f"{counts[index]} of {name}, not {listed}"
    return f"{len(recorded)} classes, not {len(counts)}"


def changed_error(manifest: Manifest, shard: Shard, actual: str, recorded: str) -> DataError:
    """Return the error for a shard that differs from its manifest."""
    return DataError(
        f"a shard changed since it was prepared: {actual}, manifest says {recorded}",
        where=manifest.uri(shard),
        next_command=prepare_again(manifest),
    )


def prepare_again(manifest: Manifest) -> str:
    """Return the command to run next. External files are only read again, not prepared."""
    if manifest.is_external:
        return "lotus-ray validate JOB.yaml"
    if manifest.is_remote:
        return f"{prepare_command(manifest.dataset, 'FOLDER')}   (then copy FOLDER to the bucket)"
    return f"rm -r {manifest.directory} && {prepare_command(manifest.dataset, manifest.directory)}"


def file_stamp(manifest: Manifest, shard: Shard) -> tuple[int, int]:
    """Return size and time of a file on disk; (0, 0) for others, whose manifest is always new.

    Raises:
        DataError: the file cannot be read.
    """
    uri = manifest.uri(shard)
    if "://" in uri:
        return (0, 0)
    try:
        result = Path(uri).stat()
    except OSError as error:
        raise DataError(
            f"a shard cannot be read: {error.strerror}",
            where=uri,
            next_command=prepare_again(manifest),
        ) from error
    return (result.st_size, result.st_mtime_ns)
