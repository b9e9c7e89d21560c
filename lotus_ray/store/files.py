"""A store as files: where it is, what tells it from others, and what is not part of any row."""

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
        self._base = base or uri  # what the addresses of its objects begin with

    @classmethod
    def open(cls, uri: str) -> Self:
        """Open the store at a local path, or in a bucket; nothing is written.

        Raises:
            StoreError: the URI names a kind of store that does not exist, or not a folder, or holds
                a password; or what a bucket needs is not installed.
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
        """Return the local folder that it is, or None."""
        return self.objects.root if isinstance(self.objects, LocalObjects) else None

    def address(self, name: str) -> str:
        """Return the address of an object, for people."""
        return f"{self._base}/{name}"

    def check_writable(self) -> None:
        """Try it, and create the object that marks a store, where there is none yet.

        Raises:
            StoreError: it cannot be written, or would let two writers create one object.
        """
        self.check_creates_once()
        identity = {"format": FORMAT, "id": uuid.uuid4().hex}
        self.objects.create(MARKER, json.dumps(identity).encode() + b"\n")

    def check_creates_once(self) -> None:
        """Create an object twice; the store has to refuse the second.

        Raises:
            StoreError: it cannot be written, or does not refuse: two writers of one cell would each
                believe that its row is the one.
        """
        if wrong := broken_promise(self.objects):
            raise StoreError(
                f"the store {wrong}: it has to create an object only where none exists, or two "
                "writers of one cell would overwrite each other",
                where=self.uri,
                nearest=KINDS + "; a server of objects has to honour If-None-Match",
                next_command="lotus-ray grid JOB.yaml --store FOLDER",
            )

    def store_id(self) -> str | None:
        """Return what tells this store from every other one, or None where there is none."""
        try:
            return self.objects.read(MARKER).decode(errors="replace")
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Return whether there is a store."""
        return self.store_id() is not None

    def access_error(self, store_id: str) -> str:
        """Return why this process does not reach the store of an id; empty if it does."""
        try:
            found = self.store_id()
        except StoreError as error:
            return error.what
        if found is None:
            return "there is none"
        return "" if found == store_id else "another one lies there"

    def check_exists(self) -> None:
        """Raise StoreError where there is no store."""
        if not self.exists():
            raise StoreError(
                "there is no metric store here",
                where=self.uri,
                next_command=f"lotus-ray grid JOB.yaml --store {self.uri}",
            )

    def put(self, name: str, content: bytes) -> None:
        """Keep a file that is named after its content; one that is torn or flipped is replaced."""
        found = self.find(name)
        if found == content:
            return
        if found is not None:
            _log.warning("%s is not what was written there; it is replaced", self.address(name))
        self.objects.replace(name, content)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file that is not part of any row, such as the outcome of the last command."""
        self.objects.replace(name, content)

    def find(self, name: str) -> bytes | None:
        """Return a file that is not part of any row, or None where there is none."""
        try:
            return self.objects.read(name)
        except FileNotFoundError:
            return None

    def find_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return those files that there are, many read at once."""
        wanted = list(dict.fromkeys(names))
        with ThreadPoolExecutor(READERS) as readers:
            found = zip(wanted, readers.map(self.find, wanted), strict=True)
            return {name: content for name, content in found if content is not None}

    def etag(self, name: str) -> str | None:
        """Return what changes whenever a file is replaced, or None where there is none."""
        return self.objects.etag(name)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right below one, each with its slash."""
        return self.objects.folders(prefix)

    def remove_all(self, prefix: str) -> None:
        """Remove what lies below a folder name and is not part of any row."""
        self.objects.delete_all(prefix)


def _cloud_objects(address: Address) -> Objects:
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
