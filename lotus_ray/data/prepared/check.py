"""Check a data set before anything runs: everything but its images, in one pass.

An image is checked when it is decoded, against the digest in its row. So no byte is read twice, and
a grid on 140 GB starts within seconds.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.index import read_index
from lotus_ray.data.prepared.manifest import (
    MANIFEST,
    Manifest,
    sha256_of,
)
from lotus_ray.data.prepared.shard_checks import (
    changed_error,
    file_stamp,
    first_difference,
    prepare_again,
    read_part,
    read_shard,
)
from lotus_ray.data.sources import SPLITS

_THREADS = 8  # shards that are read at once: from a bucket, each takes a while
_KEPT = 8  # tables of labels that a process caches


_cached: dict[object, pa.Table] = {}


def read_labels(manifest: Manifest) -> pa.Table:
    """Check everything but the images of a data set; return its small columns.

    Every shard is checked: existence, size, footer, schema, labels, and ids, labels and digests
    against the manifest. Of a data set in a bucket with an index, that is checked in their place.
    Then all shards together: repeated ids, and the counts of classes. The result is cached in this
    process as long as the files do not change.

    Args:
        manifest: of the data set.

    Returns:
        sample_id, label, split and sha256 of every image, sorted by sample_id. sha256 is null in
        external files.

    Raises:
        DataError: a check failed. The text names file, row, id or column.
    """
    folder = Path() if manifest.is_external else manifest.directory.absolute()
    stamps = tuple(file_stamp(manifest, shard) for shard in manifest.shards)
    key = (replace(manifest, directory=folder), stamps)
    if key not in _cached:
        labels = _read(manifest)
        while len(_cached) >= _KEPT:
            del _cached[next(iter(_cached))]
        _cached[key] = labels
    return _cached[key]


def verify(manifest: Manifest) -> Manifest:
    """Check everything but the images of a data set; return its manifest.

    Raises:
        DataError: see `read_labels`.
    """
    read_labels(manifest)
    return manifest


def verify_bytes(manifest: Manifest) -> Manifest:
    """Check the SHA-256 of every shard file; return the manifest.

    Raises:
        DataError: a shard is missing or changed. The text names it.
    """
    for shard in manifest.shards:
        file_stamp(manifest, shard)
        digest = sha256_of(Path(manifest.uri(shard)))
        if digest != shard.sha256:
            raise changed_error(manifest, shard, f"SHA-256 {digest[:12]}…", f"{shard.sha256[:12]}…")
    return manifest


def _read(manifest: Manifest) -> pa.Table:
    parts = read_index(manifest) if manifest.is_remote else None
    if parts is None:
        with ThreadPoolExecutor(_THREADS) as pool:
            tables = list(pool.map(partial(read_shard, manifest), manifest.shards))
    else:
        shards = zip(manifest.shards, parts, strict=True)
        tables = [read_part(manifest, shard, part) for shard, part in shards]
    if not tables:
        raise DataError("the manifest lists no shard", where=str(manifest.directory / MANIFEST))
    labels = pa.concat_tables(tables).sort_by("sample_id").combine_chunks()
    _check_ids(labels, manifest)
    _check_counts(labels, manifest)
    return labels


def _check_ids(labels: pa.Table, manifest: Manifest) -> None:
    """Raise DataError if an id occurs twice, in one split or in two. Ids are sorted."""
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
    """Raise DataError if the manifest's counts of classes differ from the shards."""
    if manifest.is_external:
        return
    for split, result in count_classes(labels, len(manifest.classes)).items():
        recorded = tuple(manifest.counts.get(split, ()))
        if result != recorded:
            raise DataError(
                f"the manifest's counts of {split} images by class differ from the shards: "
                f"{first_difference(result, recorded, manifest.classes)}",
                where=str(manifest.directory / MANIFEST),
                next_command=prepare_again(manifest),
            )


def count_classes(labels: pa.Table, classes: int) -> dict[str, tuple[int, ...]]:
    """Count images by class and split.

    Args:
        labels: a table with the columns `label` and `split`.
        classes: number of classes.

    Returns:
        The number of images of each class, by split.
    """
    values, splits = labels["label"].to_numpy(), labels["split"]
    return {
        split: tuple(
            np.bincount(values[pc.equal(splits, split).to_numpy()], minlength=classes).tolist()
        )
        for split in SPLITS
    }
