"""The metric store: put-if-absent commits, exactly one visible row a cell.

    lotus-ray-store.json                 marks a store, and tells it from every other one
    rows/<cell>/<row version>.json        a row with its own SHA-256; the latest one is visible
    attempts/<cell>/<attempt>/...        artifacts that rows name, and markers of attempts begun
    borders/<cell>/<row version>.pt       where a cell that is cut off goes on; gone with its row
    probe-<seconds>-<unique>/            whether objects can be created once; gone in a moment
    roles/, logits/, comparisons/        what rows share, named after what it is computed from

A row becomes visible only by creating its object, which succeeds for one writer alone, after every
artifact it names is written and its digest re-read. A row is never changed. A failed row is
superseded by the next row version when the user asks for a retry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import ArtifactDamaged, StoreError
from lotus_ray.base.timestamps import utc_now
from lotus_ray.store.objects import Objects
from lotus_ray.store.objects.address import KINDS, Address
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.probe import broken_promise
from lotus_ray.store.row import OK as OK
from lotus_ray.store.row import Artifact
from lotus_ray.store.row import Row as Row

MARKER = "lotus-ray-store.json"
FORMAT = 1
_READERS = 16  # objects that are read at once
_ROW_NAME = re.compile(r"rows/[^/]+/[0-9]{4,}\.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One try at a cell. Its artifacts live under `folder`, its row may become `row version`."""

    cell_id: str
    attempt_id: str
    row_version: int

    @property
    def folder(self) -> str:
        """Return the folder of its artifacts, relative to the store."""
        return f"attempts/{self.cell_id}/{self.attempt_id}"


class Store:
    """Rows of cells and the artifacts they name."""

    def __init__(self, objects: Objects, uri: str, location: str, base: str | None = None) -> None:
        self.objects = objects
        self.uri = uri  # as the user wrote it
        self.location = location  # the same from any working directory
        self._base = base or uri  # what the addresses of its objects begin with

    @classmethod
    def open(cls, uri: str) -> Store:
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

    def rows(self) -> dict[str, Row]:
        """Return the visible row of every cell that has one, by cell id."""
        by_cell = _by_cell(self._row_names("rows/"))
        with ThreadPoolExecutor(_READERS) as readers:
            found = zip(by_cell, readers.map(self._latest, by_cell.values()), strict=True)
            return {cell_id: row for cell_id, row in found if row is not None}

    def row(self, cell_id: str) -> Row | None:
        """Return the visible row of a cell, or None."""
        return self._latest(self._row_names(f"rows/{cell_id}/"))

    def next_row_versions(self) -> Counter[str]:
        """Return the row version that a new row of each cell would have, by one list: else 0."""
        by_cell = _by_cell(self._row_names("rows/"))
        return Counter({cell: 1 + max(map(_row_version, names)) for cell, names in by_cell.items()})

    def attempt(self, cell_id: str, row_version: int) -> Attempt:
        """Return a new try at a cell without recording that it starts."""
        return Attempt(cell_id, uuid.uuid4().hex[:12], row_version)

    def begin(self, cell_id: str, row_version: int, about: Mapping[str, Any]) -> Attempt:
        """Record that a try at a cell starts, with facts `about` where it runs."""
        attempt = self.attempt(cell_id, row_version)
        ids = {"cell_id": cell_id, "attempt_id": attempt.attempt_id, "row_version": row_version}
        marker = json.dumps({**ids, "begun_at": utc_now(), **about})
        self.objects.create(f"{attempt.folder}/begun.json", marker.encode())
        return attempt

    def attempts(self, cell_id: str) -> int:
        """Return how many tries at a cell were begun."""
        return len(self.markers(cell_id).get(cell_id, ()))

    def markers(self, cell_id: str | None = None) -> dict[str, list[str]]:
        """Return the names of what marks the tries that were begun, by cell id, by one list.

        Args:
            cell_id: the only cell that is asked for; default all.
        """
        names = self.objects.names("attempts/" if cell_id is None else f"attempts/{cell_id}/")
        return _by_cell(name for name in names if name.endswith("/begun.json"))

    def resources_by_attempt(
        self, cell_id: str, row_version: int | None = None
    ) -> list[dict[str, Any]]:
        """Return what each try at a cell was begun with, as in a row, the first try first.

        Args:
            cell_id: the cell.
            row version: of the row that the tries were for; default any.
        """
        markers = [
            _plain(self.objects.read(name)) for name in self.markers(cell_id).get(cell_id, ())
        ]
        wanted = [m for m in markers if row_version in (None, _row_version_of(m, row_version))]
        wanted.sort(key=lambda marker: str(marker.get("begun_at", "")))
        return [{"workers": 1, **marker.get("resources", {})} for marker in wanted]

    def commit(
        self, attempt: Attempt, row: Row | Mapping[str, Any], artifacts: Mapping[str, bytes]
    ) -> Row:
        """Make the row of an attempt visible, its artifacts first.

        Args:
            attempt: from `begin`.
            row: of the cell; its ids, row version, attempts and artifacts are set here.
            artifacts: contents by file name.

        Returns:
            The visible row: ours, or that of another writer who was first with this row version.

        Raises:
            StoreError: something cannot be written, or reads back differently.
        """
        row = replace(
            row if isinstance(row, Row) else Row.from_json(row),
            cell_id=attempt.cell_id,
            attempt_id=attempt.attempt_id,
            row_version=attempt.row_version,
            attempts=self.attempts(attempt.cell_id),
            artifacts={
                name: self._put_artifact(f"{attempt.folder}/{name}", content)
                for name, content in artifacts.items()
            },
        )
        self.objects.create(_row_name(attempt.cell_id, attempt.row_version), sealed(row.to_json()))
        visible = self.row(attempt.cell_id)
        if visible is None:
            raise StoreError("a committed row cannot be read back", where=self.uri)
        return visible

    def artifact(self, row: Row, name: str) -> bytes:
        """Return an artifact that a row names, its digest checked.

        Raises:
            ArtifactDamaged: it is missing or differs from what the row says.
        """
        entry = row.artifacts[name]
        try:
            content = self.objects.read(entry.name)
        except FileNotFoundError as error:
            raise ArtifactDamaged(
                f"an artifact of a committed row cannot be read: {error.strerror}",
                where=self.address(entry.name),
                next_command="lotus-ray grid JOB.yaml --force",
            ) from error
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ArtifactDamaged(
                "an artifact of a committed row changed since it was written",
                where=self.address(entry.name),
                next_command="lotus-ray grid JOB.yaml --force",
            )
        return content

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
        with ThreadPoolExecutor(_READERS) as readers:
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

    def _row_names(self, prefix: str) -> list[str]:
        """Return the names of rows; whatever else lies there, such as a backup, is passed over."""
        return [name for name in self.objects.names(prefix) if _ROW_NAME.fullmatch(name)]

    def _put_artifact(self, name: str, content: bytes) -> Artifact:
        self.objects.replace(name, content)  # an attempt has its folder for itself
        digest = hashlib.sha256(content).hexdigest()
        if hashlib.sha256(self.objects.read(name)).hexdigest() != digest:
            raise StoreError("an artifact reads back differently", where=self.address(name))
        return Artifact(name, digest, len(content))

    def _latest(self, names: Iterable[str]) -> Row | None:
        for name in sorted(names, key=_row_version, reverse=True):
            content = unsealed(self.objects.read(name))
            if content is not None:
                return Row.from_json(content, where=self.address(name))
            _log.warning("%s does not match its digest and is ignored", self.address(name))
        return None


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


def _row_name(cell_id: str, row_version: int) -> str:
    return f"rows/{cell_id}/{row_version:04d}.json"


def _by_cell(names: Iterable[str]) -> dict[str, list[str]]:
    """Return names of the form <kind>/<cell>/… by their cell."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.split("/")[1], []).append(name)
    return found


def _row_version(name: str) -> int:
    return int(name.rsplit("/", 1)[1].removesuffix(".json"))


def _row_version_of(marker: Mapping[str, Any], default: int | None) -> int | None:
    """Return the row version of an attempt; markers of format 1 call it a generation."""
    version: int | None = marker.get("row_version", marker.get("generation", default))
    return version


def _plain(content: bytes) -> dict[str, Any]:
    """Return a small record that has no digest; empty where it is torn."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def sealed(body: Mapping[str, Any]) -> bytes:
    """Return a file that holds a row, or another small record, and its SHA-256."""
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"sha256": "{digest}", "row": {text}}}\n'.encode()


def unsealed(content: bytes) -> dict[str, Any] | None:
    """Return what `sealed` wrote, or None where the file is torn or flipped."""
    try:
        envelope = json.loads(content)
        text = json.dumps(envelope["row"], sort_keys=True, allow_nan=False)
        good = envelope["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, KeyError, TypeError):
        return None
    body: dict[str, Any] = envelope["row"]
    return body if good else None
