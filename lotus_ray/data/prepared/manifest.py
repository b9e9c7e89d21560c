"""Parquet shards in Hugging Face image layout, and the manifest that lists them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.columns import class_names, labels_of
from lotus_ray.data.prepared.external_ids import short_names
from lotus_ray.data.prepared.parquet import reading

MANIFEST = "manifest.json"
INDEX = "index.arrow"  # beside it, of our shards
FORGET_IDS = "forget.txt"  # ids of the data set's own forget set, if it has one
FORMAT = 4
DIGEST = "sha256"  # the column of our shards with the digest of each image
DIGEST_TYPE = pa.binary(32)
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        (DIGEST, DIGEST_TYPE),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a data set."""

    file: str  # relative to the manifest; an address if external, or in a bucket
    split: str
    rows: int
    bytes: int
    sha256: str  # of the file
    content: str  # from `content_digest`


@dataclass(frozen=True)
class Columns:
    """Column names of a data set. Without `sample_id`, the id is made of file and row."""

    image: str = "image"
    label: str = "label"
    sample_id: str | None = "sample_id"


@dataclass(frozen=True)
class Manifest:
    """A data set: its classes and shards. `digest` identifies the content, wherever it is.

    External files are read in place. They have no sample ids and no counts.
    """

    directory: Path
    dataset: str
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    titles: tuple[str, ...] = ()  # class names for people, or empty
    notes: tuple[str, ...] = ()  # which images were left out, and why
    columns: Columns = Columns()
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)  # by class
    made_from: Mapping[str, str] = field(default_factory=dict, hash=False)  # options of `prepare`

    @property
    def is_external(self) -> bool:
        """True if the files are external: not written by `lotus-ray prepare`."""
        return self.columns.sample_id is None

    @property
    def is_remote(self) -> bool:
        """True if `lotus-ray prepare` wrote the shards, and they are in a bucket."""
        return not self.is_external and any("://" in shard.file for shard in self.shards)

    @property
    def digest(self) -> str:
        """SHA-256 of classes and contents. It does not depend on the Parquet version."""
        content = [list(self.classes), [[s.split, s.rows, s.content] for s in self.shards]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def paths(self) -> list[str]:
        """The address of every shard."""
        return [self.uri(shard) for shard in self.shards]

    def uri(self, shard: Shard) -> str:
        """Return the address of a shard."""
        in_place = self.is_external or "://" in shard.file
        return shard.file if in_place else str(self.directory / shard.file)

    @cached_property
    def _short_names(self) -> dict[str, str]:
        return short_names([(shard.split, shard.file) for shard in self.shards])

    def file_id(self, shard: Shard) -> str:
        """Return what the ids of an external file begin with: its split and its name."""
        return f"{shard.split}/{self._short_names[shard.file]}"

    def rows(self, split: str) -> int:
        """Return the number of images in a split."""
        return sum(shard.rows for shard in self.shards if shard.split == split)


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a prepared data set.

    Raises:
        DataError: the folder holds no manifest, or a damaged one.
    """
    path = directory / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        return Manifest(
            directory=directory,
            dataset=content["dataset"],
            classes=tuple(content["classes"]),
            shards=tuple(Shard(**shard) for shard in content["shards"]),
            titles=tuple(content["titles"]),
            notes=tuple(content["notes"]),
            columns=Columns(**content["columns"]),
            counts={split: tuple(counts) for split, counts in content["counts"].items()},
            made_from=dict(content.get("made_from", {})),
        )
    except FileNotFoundError as error:
        raise DataError(
            "no prepared data set here: manifest.json is missing",
            where=str(directory),
            next_command=f"lotus-ray prepare SOURCE {directory}",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"the manifest cannot be read: {reason}",
            where=str(path),
            next_command=f"lotus-ray prepare SOURCE {directory}-new",
        ) from error


def read_small(manifest: Manifest, shard: Shard, file: pq.ParquetFile) -> pa.Table:
    """Return sample_id, label and sha256 of a shard's rows, in order, without the images.

    In external files, ids are made of file and row, and sha256 is null.

    Args:
        manifest: of the data set.
        shard: the shard.
        file: the shard's file, open.

    Raises:
        DataError: a column cannot be read. The text names the file.
    """
    columns, uri = manifest.columns, manifest.uri(shard)
    with reading(uri):
        if columns.sample_id is not None:
            table = file.read(columns=[columns.sample_id, columns.label, DIGEST])
            ids, digests = table[columns.sample_id], table[DIGEST]
        else:
            table = file.read(columns=[columns.label])
            stem = manifest.file_id(shard)
            ids = pa.array([f"{stem}:{row}" for row in range(len(table))], pa.string())
            digests = pa.nulls(len(table), DIGEST_TYPE)
        names = class_names(file, columns.label) if manifest.is_external else None
        where = f"{uri}, column {columns.label}"
        labels = labels_of(table[columns.label], manifest.classes, names, where)
        return pa.table({"sample_id": ids, "label": labels, DIGEST: digests})


def content_digest(small: pa.Table) -> str:
    """Hash ids, labels and digests of images. The encoding in Parquet and Arrow does not matter.

    Args:
        small: sample_id, label and sha256 of a shard, without nulls.

    Returns:
        The SHA-256, in hexadecimal, of the number of rows, the length of each id in bytes, the
        labels (int64, little-endian), the ids and the digests.
    """
    ids, labels, digests = small["sample_id"], small["label"], small[DIGEST]
    lengths = pc.binary_length(ids).to_numpy()
    numbers = np.concatenate([[len(small)], lengths, labels.to_numpy()]).astype("<i8")
    result = hashlib.sha256(numbers.tobytes())
    result.update("".join(ids.to_pylist()).encode())
    result.update(b"".join(digests.to_pylist()))
    return result.hexdigest()


def write_manifest(manifest: Manifest) -> None:
    """Write the manifest into its directory."""
    content = {
        "format": FORMAT,
        "dataset": manifest.dataset,
        "classes": list(manifest.classes),
        "titles": list(manifest.titles),
        "notes": list(manifest.notes),
        "columns": asdict(manifest.columns),
        "counts": {split: list(counts) for split, counts in manifest.counts.items()},
        **({"made_from": dict(manifest.made_from)} if manifest.made_from else {}),
        "shards": [vars(shard) for shard in manifest.shards],
    }
    temporary = manifest.directory / f".{MANIFEST}.{uuid.uuid4().hex}"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(manifest.directory / MANIFEST)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
