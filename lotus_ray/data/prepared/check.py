"""What is checked of a data set before anything runs: all but its images, in one pass.

An image is checked when it is decoded, against the digest that stands beside it. So no byte is read
twice, and a grid on 140 GB starts within seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.data.prepared.manifest import (
    DIGEST,
    DIGEST_TYPE,
    MANIFEST,
    Manifest,
    Shard,
    content_digest,
    read_small,
    sha256_of,
)
from lotus_ray.data.prepared.parquet import footer_digest, open_parquet
from lotus_ray.data.sources import SPLITS, prepare_command

_THREADS = 8  # shards looked at together: in a bucket each of them is a wait
_KEPT = 8  # tables of labels that a process remembers
_known: dict[object, pa.Table] = {}


def read_labels(manifest: Manifest) -> pa.Table:
    """Check everything but the images of a data set; return its small columns.

    Of every shard: existence, size, footer, schema, labels, and that ids, labels and digests are
    what the manifest says; of all together: repeated ids, and the counts of classes. A process
    that asks again about files that did not change since is given the same table.

    Returns:
        sample_id, label, split and sha256 of every image, sorted by sample_id; sha256 is null in
        files read in place.

    Raises:
        DataError: something is not as it should be; the text names file, row, id or column.
    """
    folder = Path() if manifest.in_place else manifest.directory.absolute()
    stamps = tuple(_stamp(manifest, shard) for shard in manifest.shards)
    key = (replace(manifest, directory=folder), stamps)
    if key not in _known:
        labels = _read(manifest)
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        _known[key] = labels
    return _known[key]


def verify(manifest: Manifest) -> Manifest:
    """Check everything but the images of a data set; return its manifest.

    Raises:
        DataError: as `read_labels`.
    """
    read_labels(manifest)
    return manifest


def verify_whole(manifest: Manifest) -> Manifest:
    """Read every byte of our own shards again; return their manifest.

    Raises:
        DataError: a shard is missing or differs; the text names it.
    """
    for shard in manifest.shards:
        _stamp(manifest, shard)
        digest = sha256_of(Path(manifest.uri(shard)))
        if digest != shard.sha256:
            raise _changed(manifest, shard, f"SHA-256 {digest[:12]}…", f"{shard.sha256[:12]}…")
    return manifest


def _stamp(manifest: Manifest, shard: Shard) -> tuple[int, int]:
    """Return size and time of a file on a disk; of one elsewhere, the manifest has just been made.

    Raises:
        DataError: it is not there.
    """
    uri = manifest.uri(shard)
    if "://" in uri:
        return (0, 0)
    try:
        found = Path(uri).stat()
    except OSError as error:
        raise DataError(
            f"a shard cannot be read: {error.strerror}", where=uri, next_command=_again(manifest)
        ) from error
    return (found.st_size, found.st_mtime_ns)


def _read(manifest: Manifest) -> pa.Table:
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(partial(_read_shard, manifest), manifest.shards))
    if not tables:
        raise DataError("the manifest lists no shard", where=str(manifest.directory / MANIFEST))
    labels = pa.concat_tables(tables).sort_by("sample_id").combine_chunks()
    _check_ids(labels, manifest)
    _check_counts(labels, manifest)
    return labels


def _read_shard(manifest: Manifest, shard: Shard) -> pa.Table:
    try:
        return _checked(manifest, shard)
    except DataError as error:
        error.next_command = error.next_command or _again(manifest)
        raise


def _checked(manifest: Manifest, shard: Shard) -> pa.Table:
    uri = manifest.uri(shard)
    with open_parquet(uri) as file:
        _check_schema(file, manifest, shard)
        small = read_small(manifest, shard, file)
        for name in small.column_names:
            nulls = small[name].null_count
            if nulls and not (manifest.in_place and name == DIGEST):
                ours = manifest.columns.label if name == "label" else name
                raise DataError(f"column {ours} has {nulls} nulls", where=uri)
        _check_range(small, manifest, uri)
        _check_unchanged(small, file, manifest, shard)
    return small.add_column(2, "split", pa.repeat(shard.split, len(small)))


def _check_schema(file: pq.ParquetFile, manifest: Manifest, shard: Shard) -> None:
    """Raise DataError where columns have another type or are missing, or the split is unknown."""
    where, columns = manifest.uri(shard), manifest.columns
    schema = file.schema_arrow
    wanted: list[tuple[str, Callable[[pa.DataType], bool]]] = [
        (columns.label, pa.types.is_integer),
        (columns.image, pa.types.is_struct),
    ]
    if columns.sample_id is not None:
        wanted += [(columns.sample_id, pa.types.is_string), (DIGEST, DIGEST_TYPE.equals)]
    for name, is_right in wanted:
        if name not in schema.names:
            raise DataError(
                f"there is no column {name}", where=where, nearest=nearest(name, schema.names)
            )
        if not is_right(schema.field(name).type):
            raise DataError(f"column {name} is {schema.field(name).type}", where=where)
    fields = {field.name: field.type for field in schema.field(columns.image).type}
    if not pa.types.is_binary(fields.get("bytes", pa.null())):
        raise DataError(f"column {columns.image} is no struct with bytes", where=where)
    if shard.split not in SPLITS:
        raise DataError(
            f"unknown split '{shard.split}'", where=where, nearest=f"one of {', '.join(SPLITS)}"
        )


def _check_range(small: pa.Table, manifest: Manifest, uri: str) -> None:
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
    """Raise DataError where a shard is not what the manifest says, as far as that is cheap."""
    if len(small) != shard.rows:
        raise _changed(manifest, shard, f"{len(small)} rows", str(shard.rows))
    if manifest.in_place:
        found, recorded = footer_digest(file), shard.sha256
    else:
        size, _ = _stamp(manifest, shard)
        if size != shard.bytes:
            raise _changed(manifest, shard, f"{size} bytes", str(shard.bytes))
        found, recorded = content_digest(small), shard.content
    if found != recorded:
        what = "end of file" if manifest.in_place else "ids, labels and digests of images"
        raise _changed(manifest, shard, f"{what} {found[:12]}…", f"{recorded[:12]}…")


def _check_ids(labels: pa.Table, manifest: Manifest) -> None:
    """Raise DataError where an id occurs twice, in one split or in two. Ids are sorted."""
    ids = labels["sample_id"]
    twice = np.flatnonzero(pc.equal(ids.slice(1), ids.slice(0, max(len(ids) - 1, 0))).to_numpy())
    if not len(twice):
        return
    repeated = pc.unique(ids.take(pa.array(twice)))
    rows = labels.filter(pc.is_in(ids, value_set=repeated.slice(0, 5))).to_pylist()
    splits: dict[str, dict[str, None]] = {}
    for row in rows:
        splits.setdefault(row["sample_id"], {})[row["split"]] = None
    named = [f"{sample_id} ({' and '.join(of)})" for sample_id, of in splits.items()]
    raise DataError(
        f"{len(repeated)} sample ids occur more than once: {', '.join(named)}",
        where=str(manifest.directory / MANIFEST),
    )


def _check_counts(labels: pa.Table, manifest: Manifest) -> None:
    """Raise DataError where the manifest counts other images of a class than there are."""
    if manifest.in_place:
        return
    for split, found in count_classes(labels, len(manifest.classes)).items():
        recorded = tuple(manifest.counts.get(split, ()))
        if found != recorded:
            raise DataError(
                f"the manifest counts other {split} images of each class than the shards hold: "
                f"{_first_difference(found, recorded, manifest.classes)}",
                where=str(manifest.directory / MANIFEST),
                next_command=_again(manifest),
            )


def count_classes(labels: pa.Table, classes: int) -> dict[str, tuple[int, ...]]:
    """Count the images of each class in each split of a table with `label` and `split`."""
    values, splits = labels["label"].to_numpy(), labels["split"]
    return {
        split: tuple(
            np.bincount(values[pc.equal(splits, split).to_numpy()], minlength=classes).tolist()
        )
        for split in SPLITS
    }


def _first_difference(
    found: tuple[int, ...], recorded: tuple[int, ...], classes: tuple[str, ...]
) -> str:
    for place, name in enumerate(classes):
        says = recorded[place] if place < len(recorded) else None
        if found[place] != says:
            return f"{found[place]} of {name}, not {says}"
    return f"{len(recorded)} classes, not {len(found)}"


def _changed(manifest: Manifest, shard: Shard, found: str, recorded: str) -> DataError:
    return DataError(
        f"a shard changed since it was prepared: {found}, manifest says {recorded}",
        where=manifest.uri(shard),
        next_command=_again(manifest),
    )


def _again(manifest: Manifest) -> str:
    """Return the command that makes the data anew; of files read in place, each start looks."""
    if manifest.in_place:
        return "lotus-ray validate JOB.yaml"
    return f"rm -r {manifest.directory} && {prepare_command(manifest.dataset, manifest.directory)}"
