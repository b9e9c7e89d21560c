"""A problem small enough to follow by hand, on one worker or several."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from lotus_ray.base.roles import CALIBRATION, FORGET, OTHER_TRAIN, RETAIN, ROLES, STORED, UNSEEN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.lookup import Pixels, stream_here
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.index import INDEX
from lotus_ray.data.prepared.manifest import Manifest, content_digest, sha256_of, write_manifest
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import Images, Source
from lotus_ray.data.sources.images import Item, index_of
from lotus_ray.models.layout import blocks_of, head_of
from lotus_ray.unlearning.contract import Batch, Workers
from lotus_ray.unlearning.problem import Problem

# Pixels p become p/255 − 0 over 1: a white pixel is 1 and a black one is 0.
PLAIN = Transform(img_size=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Linear(nn.Module):
    """Logits = W x for x the flattened image: no bias, so that hand arithmetic stays short."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, classes, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits


def make_roles(roles: str, labels: list[int], num_classes: int) -> Roles:
    """Build a table from letters: f(orget), r(etain), u(nseen), t(est), c(alibration)."""
    places = {role[0]: STORED.index(role) for role in (*ROLES, CALIBRATION)}
    return Roles(
        sample_ids=[f"s{place:03d}" for place in range(len(labels))],
        labels=np.array(labels, dtype=np.int64),
        roles=np.array([places[letter] for letter in roles], dtype=np.int8),
        num_classes=num_classes,
    )


def table(letters: str, classes: int = 3, prefix: str = "s") -> Roles:
    """Build a table of roles from letters: f, r, u, t; row i shows class i mod `classes`."""
    places = {role[0]: place for place, role in enumerate(ROLES)}
    return Roles(
        sample_ids=[f"{prefix}{row:03d}" for row in range(len(letters))],
        labels=np.arange(len(letters), dtype=np.int64) % classes,
        roles=np.array([places[letter] for letter in letters], dtype=np.int8),
        num_classes=classes,
    )


def make_dataset(
    pixels: Tensor,
    roles: Roles,
    workers: Workers | None = None,
    seed: int = 0,
    transform: Transform = PLAIN,
    dtype: torch.dtype = torch.float64,
) -> ImageDataset:
    """Build a image dataset on the CPU."""
    device = torch.device("cpu")
    images = Pixels.of(pixels.numpy())
    return ImageDataset(images, roles, transform, seed, device, dtype, workers or Workers())


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


def make_problem(
    model: nn.Module,
    dataset: ImageDataset,
    batch_size: int = 100,
    initial_model: Callable[[int], nn.Module] | None = None,
) -> Problem:
    """Build a problem that starts from `model` as the original."""
    model = copy.deepcopy(model).to(dataset.dtype)
    original = copy.deepcopy(model).eval().requires_grad_(False)
    return Problem(
        model=copy.deepcopy(model),
        original=original,
        forget=dataset.split(FORGET),
        retain=dataset.split(RETAIN),
        other_train=dataset.split(OTHER_TRAIN),
        unseen=dataset.split(UNSEEN),
        calibration=dataset.split(CALIBRATION) or dataset.split(UNSEEN),
        num_classes=dataset.roles.num_classes,
        head=head_of(model),
        blocks=blocks_of(model),
        num_rows=len(dataset.roles),
        batch_size=batch_size,
        seed=dataset.seed,
        device=dataset.device,
        image_shape=dataset.pixels.shape,
        pixel_range=dataset.pixel_range,
        initial_model=initial_model or (lambda seed: copy.deepcopy(model)),
        random_model=lambda: _perturbed(model),
        workers=dataset.workers,
    )


def _perturbed(model: nn.Module) -> nn.Module:
    """Return a copy with other random weights, frozen: the bad teacher."""
    torch.manual_seed(123)
    other = copy.deepcopy(model).eval().requires_grad_(False)
    for value in other.parameters():
        value.copy_(torch.randn_like(value) * 0.5)
    return other


def blobs(count: int, classes: int, seed: int = 0, noise: int = 30) -> Tensor:
    """Return noisy 2×2 images, uint8 [count, 3, 2, 2]; sample i shows class i mod classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randint(40, 216, (classes, 3, 2, 2), generator=generator)
    spread = torch.randint(-noise, noise + 1, (count, 3, 2, 2), generator=generator)
    return (centres[torch.arange(count) % classes] + spread).clamp(0, 255).to(torch.uint8)


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
