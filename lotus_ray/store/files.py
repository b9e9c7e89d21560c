"""A store as files: its address, its id, and the files that belong to no row."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects import Objects
from lotus_ray.store.objects.address import KINDS, Address
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.probe import broken_promise

FORMAT = 1  # of the marker
MARKER = "lotus-ray-store.json"
READERS = 16  # objects that are read at once
_log = logging.getLogger(__name__)


class Files:
    """Files of a store, by name, in a folder or a bucket."""

    def __init__(self, objects: Objects, uri: str, location: str, base: str | None = None) -> None:
        self.objects = objects
        self.uri = uri  # as the user wrote it
        self.location = location  # the same from any working directory
        self._base = base or uri  # prefix of the addresses of its objects

    @classmethod
    def open(cls, uri: str) -> Self:
        """Open the store at a local path or in a bucket. Writes nothing.

        Args:
            uri: a path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.

        Raises:
            StoreError: the URI has an unknown scheme, is a file, or holds a password; or the
                package for buckets is not installed.
        """
        if "://" in uri:
            address = Address.parse(uri)
            return cls(_cloud_objects(address), uri, address.uri, address.base)
        try:
            root = Path(uri).expanduser()
            is_file = root.exists() and not root.is_dir()
        except (RuntimeError, OSError) as error:
            raise StoreError(f"no such folder: {error}", where=uri) from error
        if is_file:
            raise StoreError("the store is a file, not a folder", where=str(root))
        return cls(LocalObjects(root.absolute()), uri, str(root.absolute()))

    @property
    def folder(self) -> Path | None:
        """The local folder of the store; None if it is in a bucket."""
        return self.objects.root if isinstance(self.objects, LocalObjects) else None

    def address(self, name: str) -> str:
        """Return the address of an object, for people."""
        return f"{self._base}/{name}"

    def check_writable(self) -> None:
        """Check that the store can be written, and create its marker if there is none.

        Raises:
            StoreError: the store cannot be written, or would let two writers create one object.
        """
        self.check_creates_once()
        identity = {"format": FORMAT, "id": uuid.uuid4().hex}
        self.objects.create(MARKER, json.dumps(identity).encode() + b"\n")

    def check_creates_once(self) -> None:
        """Create an object twice; the store must refuse the second time.

        Raises:
            StoreError: the store cannot be written, or does not refuse. Then two writers of one
                cell would each believe that their own row counts.
        """
        if wrong := broken_promise(self.objects):
            raise StoreError(
                f"the store {wrong}: it must not create an object that exists, or two writers of "
                "one cell would overwrite each other",
                where=self.uri,
                nearest=KINDS + "; an S3 server must honour If-None-Match",
                next_command="lotus-ray grid JOB.yaml --store FOLDER",
            )

    def store_id(self) -> str | None:
        """Return the unique id of this store, or None if there is no store here."""
        try:
            return self.objects.read(MARKER).decode(errors="replace")
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Return True if there is a store here."""
        return self.store_id() is not None

    def access_error(self, store_id: str) -> str:
        """Return why this process cannot use the store with an id; empty if it can."""
        try:
            own_id = self.store_id()
        except StoreError as error:
            return error.what
        if own_id is None:
            return "there is none"
        return "" if own_id == store_id else "it is another store"

    def check_exists(self) -> None:
        """Raise StoreError if there is no store here."""
        if not self.exists():
            raise StoreError(
                "there is no metric store here",
                where=self.uri,
                next_command=f"lotus-ray grid JOB.yaml --store {self.uri}",
            )

    def put(self, name: str, content: bytes) -> None:
        """Write a file that is named after its content. A damaged one is replaced."""
        stored = self.find(name)
        if stored == content:
            return
        if stored is not None:
            _log.warning("%s is damaged and is replaced", self.address(name))
        self.objects.replace(name, content)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file that belongs to no row, such as the outcome of the last command."""
        self.objects.replace(name, content)

    def find(self, name: str) -> bytes | None:
        """Return a file that belongs to no row, or None if there is none."""
        try:
            return self.objects.read(name)
        except FileNotFoundError:
            return None

    def find_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the files that exist, by name. Many are read at once."""
        wanted = list(dict.fromkeys(names))
        with ThreadPoolExecutor(READERS) as readers:
            files = zip(wanted, readers.map(self.find, wanted), strict=True)
            return {name: content for name, content in files if content is not None}

    def etag(self, name: str) -> str | None:
        """Return a tag that changes when the file is replaced, or None if there is no file."""
        return self.objects.etag(name)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly in `prefix`, each with its slash."""
        return self.objects.folders(prefix)

    def remove_all(self, prefix: str) -> None:
        """Remove all files under `prefix`. They must belong to no row."""
        self.objects.delete_all(prefix)


def _cloud_objects(address: Address) -> Objects:
    """Open a bucket. Raises StoreError if the package for buckets is not installed."""
    try:
        from lotus_ray.store.objects.cloud import CloudObjects
    except ImportError as error:
        raise StoreError(
            f"a store in a bucket needs the package {error.name}, which is not installed",
            where=address.base,
            nearest="a local or shared folder",
            next_command="pip install 'lotus-ray[cloud]'",
        ) from error
    return CloudObjects(address)
