"""Parquet shards in Hugging Face image layout, and the manifest that vouches for them."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.data.parquet_files import footer_digest, open_parquet
from lotus_ray.data.sources import SPLITS, prepare_command
from lotus_ray.errors import DataError, nearest

MANIFEST = "manifest.json"
FORGET_IDS = "forget.txt"  # where a data set brings its own forget set
FORMAT = 3
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
class Columns:
    """What the columns of a data set are called. Without ids, a row is known by file and place."""

    image: str = "image"
    label: str = "label"
    sample_id: str | None = "sample_id"


@dataclass(frozen=True)
class Manifest:
    """A data set: classes and shards. `digest` identifies the content, not the place.

    `titles` are what people call the classes, or empty; `notes` say what was left out. Files of
    somebody else that are read in place have no sample ids, and addresses of their own.
    """

    directory: Path
    dataset: str
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    titles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: Columns = Columns()

    @property
    def in_place(self) -> bool:
        """Return whether the files are somebody else's."""
        return self.columns.sample_id is None

    @property
    def digest(self) -> str:
        """Return the SHA-256 of classes and contents; the version of Parquet plays no part."""
        content = [list(self.classes), [[s.split, s.rows, s.content] for s in self.shards]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def paths(self) -> list[str]:
        """Return the path of every shard."""
        return [self.uri(shard) for shard in self.shards]

    def uri(self, shard: Shard) -> str:
        """Return the address of a shard."""
        return shard.file if self.in_place else str(self.directory / shard.file)

    def rows(self, split: str) -> int:
        """Return the number of images in a split."""
        return sum(shard.rows for shard in self.shards if shard.split == split)


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
            titles=tuple(content["titles"]),
            notes=tuple(content["notes"]),
            columns=Columns(**content["columns"]),
        )
    except FileNotFoundError as error:
        raise DataError(
            "no prepared data set here: manifest.json is missing",
            where=str(directory),
            next_command=f"lotus-ray prepare SOURCE {directory}",
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"the manifest cannot be read: {reason}",
            where=str(path),
            next_command=f"lotus-ray prepare SOURCE {directory}-new",
        ) from error


def verify(manifest: Manifest) -> Manifest:
    """Look whether every shard is still what the manifest says; return the manifest.

    Our own shards are read again as a whole. Of files read in place, only the ends are.

    Raises:
        DataError: a shard is missing or differs; the text names it.
    """
    for shard in manifest.shards:
        uri = manifest.uri(shard)
        again = (
            f"rm -r {manifest.directory} && {prepare_command(manifest.dataset, manifest.directory)}"
        )
        try:
            digest = footer_digest(open_parquet(uri)) if manifest.in_place else sha256_of(Path(uri))
        except OSError as error:
            raise DataError(
                f"a shard cannot be read: {error.strerror}", where=uri, next_command=again
            ) from error
        if digest != shard.sha256:
            raise DataError(
                f"a shard changed since it was prepared: SHA-256 {digest[:12]}…, "
                f"manifest says {shard.sha256[:12]}…",
                where=uri,
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
        with open_parquet(manifest.uri(shard)) as file:
            _check_shard(file, manifest, shard)
            table = file.read(columns=[manifest.columns.label])
            ids = sample_ids(manifest, shard, file)
        splits = pa.array([shard.split] * len(table), pa.string())
        labels = table[manifest.columns.label]
        tables.append(
            pa.table({"sample_id": ids, "label": labels.cast(pa.int64()), "split": splits})
        )
    if not tables:
        raise DataError("the manifest lists no shard", where=str(manifest.directory / MANIFEST))
    labels = pa.concat_tables(tables).sort_by("sample_id")
    _check_labels(labels, manifest)
    return labels


def sample_ids(manifest: Manifest, shard: Shard, file: pq.ParquetFile) -> pa.ChunkedArray:
    """Return the ids of a shard's rows: its column of them, or else file and place."""
    name = manifest.columns.sample_id
    if name is not None:
        return file.read(columns=[name])[name]
    stem = shard.file.rsplit("/", 1)[-1]
    return pa.chunked_array([[f"{shard.split}/{stem}:{row}" for row in range(shard.rows)]])


def _check_shard(file: pq.ParquetFile, manifest: Manifest, shard: Shard) -> None:
    """Raise DataError where columns have another type, are missing, or rows are not all there."""
    where, columns = manifest.uri(shard), manifest.columns
    schema = file.schema_arrow
    wanted = [(columns.label, pa.types.is_integer), (columns.image, pa.types.is_struct)]
    if columns.sample_id is not None:
        wanted.append((columns.sample_id, pa.types.is_string))
    for name, is_right in wanted:
        if name not in schema.names:
            raise DataError(
                f"there is no column {name}",
                where=where,
                nearest=nearest(name, schema.names),
            )
        if not is_right(schema.field(name).type):
            raise DataError(f"column {name} is {schema.field(name).type}", where=where)
        if name != columns.image and (nulls := _nulls(file, name)):
            raise DataError(f"column {name} has {nulls} nulls", where=where)
    fields = {field.name: field.type for field in schema.field(columns.image).type}
    if not pa.types.is_binary(fields.get("bytes", pa.null())):
        raise DataError(f"column {columns.image} is no struct with bytes", where=where)
    if file.metadata.num_rows != shard.rows:
        raise DataError(
            f"the shard has {file.metadata.num_rows} rows, the manifest says {shard.rows}",
            where=where,
        )
    if shard.split not in SPLITS:
        raise DataError(
            f"unknown split '{shard.split}'", where=where, nearest=f"one of {', '.join(SPLITS)}"
        )


def _nulls(file: pq.ParquetFile, name: str) -> int:
    return int(file.read(columns=[name])[name].null_count)


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


def write_manifest(manifest: Manifest) -> None:
    """Write the manifest into its directory."""
    content = {
        "format": FORMAT,
        "dataset": manifest.dataset,
        "classes": list(manifest.classes),
        "titles": list(manifest.titles),
        "notes": list(manifest.notes),
        "columns": asdict(manifest.columns),
        "shards": [vars(shard) for shard in manifest.shards],
    }
    temporary = manifest.directory / f".{MANIFEST}.{uuid.uuid4().hex}"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(manifest.directory / MANIFEST)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
