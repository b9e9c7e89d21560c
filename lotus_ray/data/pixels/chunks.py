"""Chunks: decoded images that a cluster keeps in the store, so that it decodes each image once.

    pixels/<key>/<ids>.json            the record of a chunk: its images, and the file with them
    pixels/<key>/<ids>-<content>.bin   their pixels, one image after another, uint8 [n, 3, H, W]

The key names the data sets, the transform and the versions of the decoders; <ids> and <content>
are digests. A record is created once, after its file. So of two writers one wins, and what a record
names is whole.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np

from lotus_ray.base.errors import StoreError
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.offsets import joined
from lotus_ray.store.results import Store
from lotus_ray.store.sealed import sealed, unsealed

ROOT = "pixels/"
CHUNK_IMAGES = 1024
CHUNK_BYTES = 64 << 20  # of pixels: 445 images of ImageNet; a task holds one chunk in memory
_IN_FLIGHT = 8  # requests at once
_DECODERS = ("pillow", "simplejpeg", "torch")


class ChunkLost(StoreError):
    """The pixels of a chunk are gone or damaged. Its images can be decoded again."""


@dataclass(frozen=True)
class ChunkRecord:
    """What the store knows of a chunk."""

    name: str  # digest of its sample ids
    file: str  # with its pixels, in the same folder
    sample_ids: Sequence[str]
    crc32: Sequence[int]  # of each image's pixels
    bad: Mapping[str, str]  # why an image cannot be decoded, by sample id
    node: str  # that decoded it


@dataclass(frozen=True)
class ChunkFolder:
    """The chunks of some data sets by one transform, in a store."""

    store: str  # its location
    key: str
    transform: Transform
    most: int = CHUNK_IMAGES  # images of a chunk

    def records(self) -> list[ChunkRecord]:
        """Return the records of all chunks. Damaged ones are left out.

        Raises:
            StoreError: the store cannot be read.
        """
        store = Store.open(self.store)
        names = [name for name in store.objects.names(self._name("")) if name.endswith(".json")]
        contents = map(unsealed, store.find_all(names).values())
        return [ChunkRecord(**content) for content in contents if content is not None]

    def keep(
        self, sample_ids: Sequence[str], pixels: np.ndarray, bad: Mapping[str, str], node: str
    ) -> ChunkRecord:
        """Keep a chunk; return its record, or that of a writer who was first and as successful.

        Args:
            sample_ids: of its images [n].
            pixels: uint8 [n, 3, H, W].
            bad: why an image cannot be decoded, by sample id.
            node: that decoded it.

        Raises:
            StoreError: the store cannot be written.
        """
        store, name = Store.open(self.store), name_of(sample_ids)
        content = pixels.tobytes()
        file = f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.bin"
        crc32 = [zlib.crc32(image.data) for image in pixels]
        record = ChunkRecord(name, file, list(sample_ids), crc32, dict(bad), node)
        store.replace(self._name(file), content)
        if store.objects.create(self._name_of(record), sealed(asdict(record))):
            return record
        first = unsealed(store.find(self._name_of(record)) or b"")
        if first is None:  # damaged, or discarded
            store.replace(self._name_of(record), sealed(asdict(record)))
        if first is None or len(first["bad"]) > len(bad):
            return record
        return ChunkRecord(**first)

    def discard(self, record: ChunkRecord) -> None:
        """Discard a chunk whose pixels are gone or damaged: the next command makes it again.

        Raises:
            StoreError: the store cannot be written.
        """
        Store.open(self.store).replace(self._name_of(record), b"")

    def read(self, record: ChunkRecord, indices: Sequence[int]) -> np.ndarray:
        """Return some images of a chunk, uint8 [n, 3, H, W]. Near ones are read by one request.

        Args:
            record: of the chunk.
            indices: of the images in the chunk, rising.

        Raises:
            ChunkLost: the pixels are missing or damaged.
            StoreError: the store cannot be read.
        """
        objects, size = Store.open(self.store).objects, self.transform.image_bytes
        name = self._name(record.file)
        pixels = np.empty((len(indices), *self.transform.shape), np.uint8)
        requests = list(joined([(index * size, size) for index in indices], gap=0))
        done = 0
        with ThreadPoolExecutor(min(_IN_FLIGHT, len(requests)) or 1) as pool:
            try:
                replies = pool.map(lambda r: objects.read_range(name, r.offset, r.size), requests)
                for request, content in zip(requests, replies, strict=True):
                    count = len(request.ranges)
                    if len(content) != request.size:
                        raise ChunkLost("decoded images are damaged", where=self.address(record))
                    part = np.frombuffer(content, np.uint8).reshape(count, *self.transform.shape)
                    pixels[done : done + count] = part
                    done += count
            except FileNotFoundError as error:
                raise ChunkLost("decoded images are gone", where=self.address(record)) from error
        if any(
            zlib.crc32(image.data) != record.crc32[index]
            for image, index in zip(pixels, indices, strict=True)
        ):
            raise ChunkLost("decoded images are damaged", where=self.address(record))
        return pixels

    def address(self, record: ChunkRecord) -> str:
        """Return the address of a chunk, for people."""
        return Store.open(self.store).address(self._name(record.file))

    def _name_of(self, record: ChunkRecord) -> str:
        return self._name(f"{record.name}.json")

    def _name(self, file: str) -> str:
        return f"{ROOT}{self.key}/{file}"


@dataclass(frozen=True)
class ChunkTask:
    """One chunk to decode and to keep."""

    folder: ChunkFolder
    row_groups: tuple[RowGroupImages, ...]

    @property
    def name(self) -> str:
        """The digest of its sample ids."""
        return name_of(self.sample_ids)

    @property
    def sample_ids(self) -> list[str]:
        """Its sample ids, in order."""
        return [name for row_group in self.row_groups for name in row_group.sample_ids]

    def run(self, node: str, threads: int = 1) -> ChunkRecord:
        """Decode the images and keep them. Images that cannot be decoded are in the record.

        Args:
            node: this one.
            threads: that decode.

        Raises:
            DataError: a file cannot be read, or an image changed.
            StoreError: the store cannot be written.
        """
        ids, bad = self.sample_ids, dict[str, str]()
        pixels = np.empty((len(ids), *self.folder.transform.shape), np.uint8)
        start = 0
        for row_group in self.row_groups:
            for encoded in row_group.read():
                part, errors = encoded.decode_each(self.folder.transform, threads)
                pixels[start : start + len(encoded)] = part
                named = zip(encoded.sample_ids, errors, strict=True)
                bad |= {name: error for name, error in named if error is not None}
                start += len(encoded)
        return self.folder.keep(ids, pixels, bad, node)


def cut(folder: ChunkFolder, row_groups: Sequence[RowGroupImages]) -> Iterator[ChunkTask]:
    """Cut images in stored order into chunks of `folder.most` images and CHUNK_BYTES at most."""
    most = max(min(folder.most, CHUNK_BYTES // folder.transform.image_bytes), 1)
    parts: list[RowGroupImages] = []
    room = most
    for row_group in row_groups:
        start = 0
        while start < len(row_group):
            part = row_group.only(np.arange(start, min(start + room, len(row_group))))
            parts.append(part)
            start, room = start + len(part), room - len(part)
            if not room:
                yield ChunkTask(folder, tuple(parts))
                parts, room = [], most
    if parts:
        yield ChunkTask(folder, tuple(parts))


def name_of(sample_ids: Sequence[str]) -> str:
    """Return the name of a chunk: the digest of its sample ids."""
    return hashlib.sha256("\n".join(sample_ids).encode()).hexdigest()[:32]


def key_of(manifests: Collection[Manifest], transform: Transform, session: str) -> str:
    """Return the key of the chunks of some data sets.

    The digest of external files covers their footers alone, which may not tell all content. So
    their chunks serve one command.

    Args:
        manifests: of the data sets.
        transform: that makes the pixels.
        session: of the command.
    """
    digests = [manifest.digest for manifest in manifests]
    versions = {name: version(name) for name in _DECODERS}
    named = json.dumps([digests, transform.spec(), versions], sort_keys=True)
    key = hashlib.sha256(named.encode()).hexdigest()[:32]
    is_external = any(manifest.is_external for manifest in manifests)
    return f"{session}/{key}" if is_external else key
