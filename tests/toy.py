"""A problem small enough to follow by hand, on one worker or several."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from lotus_ray.base.roles import ROLES
from lotus_ray.bench.method_checks.toy import PLAIN as PLAIN
from lotus_ray.bench.method_checks.toy import blobs as blobs
from lotus_ray.bench.method_checks.toy import make_dataset as make_dataset
from lotus_ray.bench.method_checks.toy import make_problem as make_problem
from lotus_ray.bench.method_checks.toy import make_roles as make_roles
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.lookup import stream_here
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.manifest import (
    INDEX,
    Manifest,
    content_digest,
    sha256_of,
    write_manifest,
)
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import Images, Source
from lotus_ray.data.sources.images import Item, index_of
from lotus_ray.unlearning.contract import Batch


class Linear(nn.Module):
    """Logits = W x for x the flattened image: no bias, so that hand arithmetic stays short."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, classes, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits


def table(letters: str, classes: int = 3, prefix: str = "s") -> Roles:
    """Build a table of roles from letters: f, r, u, t; row i shows class i mod `classes`."""
    places = {role[0]: place for place, role in enumerate(ROLES)}
    return Roles(
        sample_ids=[f"{prefix}{row:03d}" for row in range(len(letters))],
        labels=np.arange(len(letters), dtype=np.int64) % classes,
        roles=np.array([places[letter] for letter in letters], dtype=np.int8),
        num_classes=classes,
    )


@dataclass(frozen=True)
class Sample:
    """One encoded image of a toy data set."""

    sample_id: str
    split: str
    image: bytes
    path: str
    label: int


def source(samples: list[Sample], classes: tuple[str, ...] = ("cat", "dog")) -> Source:
    """Return a source of given samples."""
    items = [
        Item(s.sample_id, s.split, s.label, "", place, path=s.path)
        for place, s in enumerate(samples)
    ]

    def read(file: str, place: int, size: int) -> bytes:
        return samples[place].image

    return Source("toy", "for tests", lambda root: Images(classes, index_of(items), read))


def read_pixels(row_groups: Sequence[RowGroupImages], roles: Roles, transform: Transform) -> Tensor:
    """Decode some row groups here; return uint8 [N, 3, H, W] by row of the table of roles."""
    pixels = torch.zeros(len(roles), *transform.shape, dtype=torch.uint8)
    for rows, images in stream_here(row_groups, transform):
        pixels[torch.from_numpy(rows)] = torch.from_numpy(images)
    return pixels


def batch_of(dataset: ImageDataset, rows: list[int]) -> Batch:
    """Return the samples at `rows` as one batch."""
    return next(dataset.batches([np.array(rows)], [len(rows)], None))


def rewrite(path: str, kind: pa.DataType | None = None, /, **columns: list[Any]) -> None:
    """Put other values, and of another type where one is given, into columns of a Parquet file."""
    table = pq.read_table(path)
    for name, values in columns.items():
        column = pa.array(values, kind or table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, path)


def reseal(manifest: Manifest) -> Manifest:
    """Return and write a manifest that vouches for shards as they are now."""
    sealed = []
    for shard in manifest.shards:
        path = Path(manifest.uri(shard))
        table = pq.read_table(path)
        sealed.append(
            replace(
                shard,
                rows=len(table),
                bytes=path.stat().st_size,
                sha256=sha256_of(path),
                content=content_digest(table),
            )
        )
    found = replace(manifest, shards=tuple(sealed))
    (found.directory / INDEX).unlink(missing_ok=True)  # of what the shards were
    write_manifest(found)
    return found


class Canary(pa.ExtensionType):  # type: ignore[misc]
    """A column type of its own, which touches a file when a schema that names it is parsed."""

    touched: list[bytes] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(pa.binary(), "tests.canary")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"payload"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Canary:
        cls.touched.append(serialized)
        return cls()


def png(image: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
