"""Parquet shards in Hugging Face image layout, and the manifest that vouches for them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.data.sources import SPLITS, Sample, Source, prepare_command
from lotus_ray.errors import DataError

MANIFEST = "manifest.json"
FORGET_IDS = "forget.txt"  # where a data set brings its own forget set
FORMAT = 2
ROWS_PER_SHARD = 8192
ROWS_PER_GROUP = 512
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a data set. `file` is relative to the manifest.

    `content` is the SHA-256 of ids, labels and image bytes, `sha256` that of the file.
    """

    file: str
    split: str
    rows: int
    bytes: int
    sha256: str
    content: str


@dataclass(frozen=True)
class Manifest:
    """What `prepare` made: classes and shards. `digest` identifies the content, not the place.

    `titles` are what people call the classes, or empty; `notes` say what was left out.
    """

    directory: Path
    dataset: str
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    titles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return the SHA-256 of classes and contents; the version of Parquet plays no part."""
        content = [list(self.classes), [[s.split, s.rows, s.content] for s in self.shards]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def paths(self) -> list[str]:
        """Return the path of every shard."""
        return [str(self.directory / shard.file) for shard in self.shards]

    def rows(self, split: str) -> int:
        """Return the number of images in a split."""
        return sum(shard.rows for shard in self.shards if shard.split == split)


def prepare(source: Source, destination: Path, root: Path | None = None) -> Manifest:
    """Write a source as shards and a manifest; the directory appears whole or not at all.

    Args:
        source: an entry of SOURCES.
        root: the folder that holds its files, where it needs any.
        destination: the directory to create. A complete one with a manifest is checked and kept.

    Returns:
        The manifest of `destination`.

    Raises:
        DataError: `destination` exists and is not a prepared data set, or cannot be written; or
            the files of the source are missing or not what they should be.
    """
    if (destination / MANIFEST).exists():
        return verify(read_manifest(destination))
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise DataError(
            "the destination exists and holds no manifest",
            where=str(destination),
            next_command=prepare_command(source.name, f"{destination}-new"),
        )
    images = source.open(root)
    with _writing(destination.parent):
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".prepare-", dir=destination.parent))
    try:
        shards = [
            shard
            for split in SPLITS
            for shard in _write_split(images.samples(split), split, partial)
        ]
        _write_manifest(
            Manifest(
                partial, source.name, images.classes, tuple(shards), images.titles, images.notes
            )
        )
        if images.forget_ids:
            (partial / FORGET_IDS).write_text("\n".join(images.forget_ids) + "\n")
        partial.chmod(0o755)
        _publish(partial, destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read_manifest(destination)


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a prepared data set.

    Raises:
        DataError: there is none, or it is not one of ours.
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
            titles=tuple(content.get("titles", ())),
            notes=tuple(content.get("notes", ())),
        )
    except FileNotFoundError as error:
        raise DataError(
            "no prepared data set here: manifest.json is missing",
            where=str(directory),
            next_command=f"lotus-ray prepare SOURCE {directory}",
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            f"the manifest cannot be read: {error}",
            where=str(path),
            next_command=f"rm -r {directory} && lotus-ray prepare SOURCE {directory}",
        ) from error


def shard_paths(directories: Iterable[Path]) -> list[str]:
    """Return the paths of all shards of some prepared data sets."""
    return [path for directory in directories for path in read_manifest(directory).paths]


def verify(manifest: Manifest) -> Manifest:
    """Re-read every shard and compare its SHA-256 with the manifest's; return the manifest.

    Raises:
        DataError: a shard is missing or differs; the text names it.
    """
    for shard in manifest.shards:
        path = manifest.directory / shard.file
        again = (
            f"rm -r {manifest.directory} && {prepare_command(manifest.dataset, manifest.directory)}"
        )
        try:
            digest = _sha256(path)
        except OSError as error:
            raise DataError(
                f"a shard cannot be read: {error.strerror}", where=str(path), next_command=again
            ) from error
        if digest != shard.sha256:
            raise DataError(
                f"a shard changed since it was prepared: SHA-256 {digest[:12]}…, "
                f"manifest says {shard.sha256[:12]}…",
                where=str(path),
                next_command=again,
            )
    return manifest


def read_labels(manifest: Manifest) -> pa.Table:
    """Return sample_id, label and split of every image, without reading the images.

    Raises:
        DataError: a label outside the classes, or an id that occurs twice.
    """
    tables = []
    for shard in manifest.shards:
        path = manifest.directory / shard.file
        try:
            table = pq.read_table(path, columns=["sample_id", "label"])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"a shard cannot be read: {error}", where=str(path)) from error
        _check_shard(table, shard, path)
        tables.append(table.append_column("split", pa.array([shard.split] * len(table))))
    if not tables:
        raise DataError("the manifest lists no shard", where=str(manifest.directory / MANIFEST))
    labels = pa.concat_tables(tables).sort_by("sample_id")
    _check_labels(labels, manifest)
    return labels


def _check_shard(table: pa.Table, shard: Shard, path: Path) -> None:
    """Raise DataError where ids or labels have another type, are missing, or are not all there."""
    for name in ("sample_id", "label"):
        column, wanted = table[name], SCHEMA.field(name).type
        if column.type != wanted:
            raise DataError(f"column {name} is {column.type}, not {wanted}", where=str(path))
        if column.null_count:
            raise DataError(f"column {name} has {column.null_count} nulls", where=str(path))
    if len(table) != shard.rows:
        raise DataError(
            f"the shard has {len(table)} rows, the manifest says {shard.rows}", where=str(path)
        )
    if shard.split not in SPLITS:
        raise DataError(
            f"unknown split '{shard.split}'", where=str(path), nearest=f"one of {', '.join(SPLITS)}"
        )


def _check_labels(labels: pa.Table, manifest: Manifest) -> None:
    where = str(manifest.directory / MANIFEST)
    counts = labels.group_by("sample_id").aggregate([([], "count_all")])
    repeated = [row["sample_id"] for row in counts.to_pylist() if row["count_all"] > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} sample ids occur more than once: {', '.join(repeated[:5])}",
            where=where,
        )
    values = labels["label"].to_numpy()
    wrong = (values < 0) | (values >= len(manifest.classes))
    if wrong.any():
        first = int(wrong.argmax())
        raise DataError(
            f"label {values[first]} of {labels['sample_id'][first]} is outside "
            f"0 … {len(manifest.classes) - 1}",
            where=where,
        )


def _write_split(samples: Iterable[Sample], split: str, directory: Path) -> Iterator[Shard]:
    iterator = iter(samples)
    number = 0
    while rows := list(islice(iterator, ROWS_PER_SHARD)):
        path = directory / f"{split}-{number:05d}.parquet"
        table = pa.Table.from_pylist(
            [
                {
                    "sample_id": sample.sample_id,
                    "image": {"bytes": sample.image, "path": sample.path},
                    "label": sample.label,
                }
                for sample in rows
            ],
            schema=SCHEMA,
        )
        with _writing(path):
            pq.write_table(table, path, compression="none", row_group_size=ROWS_PER_GROUP)
        size = path.stat().st_size
        yield Shard(path.name, split, len(rows), size, _sha256(path), _content(rows))
        number += 1


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write: {error.strerror or error}", where=str(path)) from error


def _content(rows: Iterable[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in rows:
        image = hashlib.sha256(sample.image).hexdigest()
        digest.update(json.dumps([sample.sample_id, sample.label, image]).encode())
    return digest.hexdigest()


def _write_manifest(manifest: Manifest) -> None:
    content = {
        "format": FORMAT,
        "dataset": manifest.dataset,
        "classes": list(manifest.classes),
        "titles": list(manifest.titles),
        "notes": list(manifest.notes),
        "shards": [vars(shard) for shard in manifest.shards],
    }
    (manifest.directory / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")


def _publish(partial: Path, destination: Path) -> None:
    """Move the finished directory into place; another process that was first is as good."""
    try:
        partial.rename(destination)
    except OSError:
        if not (destination / MANIFEST).exists():
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
