"""The metric store: put-if-absent commits, exactly one visible row a cell.

    rows/<cell>/<generation>.json        a row with its own SHA-256; the latest one is visible
    attempts/<cell>/<attempt>/...        artifacts that rows name, and markers of attempts begun
    borders/<cell>/<generation>.pt       where a cell that is cut off goes on; gone with its row
    roles/, logits/, comparisons/        what rows share, named after what it is computed from

A row becomes visible only by creating its object, which succeeds for one writer alone, after every
artifact it names is written and its digest re-read. A row is never changed. A failed row is
superseded by the next generation when the user asks for a retry.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lotus_ray.errors import StoreError

Row = dict[str, Any]
OK = "ok"
MARKER = "lotus-ray-store.json"
_ROW_NAME = re.compile(r"rows/[^/]+/[0-9]{4,}\.json")
_log = logging.getLogger(__name__)


class Blobs(Protocol):
    """The seam a cloud store can fill. Names are relative paths with forward slashes."""

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError."""

    def create(self, name: str, content: bytes) -> bool:
        """Create an object whole, only where none exists; return whether this call did it."""

    def replace(self, name: str, content: bytes) -> None:
        """Create an object whole, or put it in the place of the one that exists."""

    def delete_all(self, prefix: str) -> None:
        """Remove what lies below a folder name; what cannot be removed stays."""

    def stamp(self, name: str) -> str | None:
        """Return what changes whenever an object is replaced, or None where there is none."""

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names that start with `prefix`, a folder name with its slash."""


class LocalBlobs:
    """A folder on a local or POSIX-like shared disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError."""
        return (self.root / name).read_bytes()

    def create(self, name: str, content: bytes) -> bool:
        """Create an object by linking a finished temporary file to its name."""
        path = self.root / name
        with self._finished(path, content) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Create an object, or put it in the place of the one that exists, in one step."""
        path = self.root / name
        with self._finished(path, content) as temporary:
            temporary.replace(path)

    def delete_all(self, prefix: str) -> None:
        """Remove a folder, temporary files of killed writers with it."""
        shutil.rmtree(self.root / prefix, ignore_errors=True)

    def stamp(self, name: str) -> str | None:
        """Return the inode, time and size of a file: a replaced one is another file."""
        try:
            found = (self.root / name).stat()
        except FileNotFoundError:
            return None
        return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names below a folder, temporary files left out."""
        folder = self.root / prefix
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in folder.rglob("*")
            if not path.name.startswith(".") and path.is_file()
        )

    @contextmanager
    def _finished(self, path: Path, content: bytes) -> Iterator[Path]:
        """Give a finished temporary file beside `path`; what is done with it is made durable."""
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise _cannot_write(path, len(content), error) from error


@dataclass(frozen=True)
class Attempt:
    """One try at a cell. Its artifacts live under `folder`, its row may become `generation`."""

    cell_id: str
    attempt_id: str
    generation: int

    @property
    def folder(self) -> str:
        """Return the folder of its artifacts, relative to the store."""
        return f"attempts/{self.cell_id}/{self.attempt_id}"


class Store:
    """Rows of cells and the artifacts they name."""

    def __init__(self, blobs: Blobs, uri: str, location: str) -> None:
        self.blobs = blobs
        self.uri = uri  # as the user wrote it
        self.location = location  # the same from any working directory

    @classmethod
    def open(cls, uri: str) -> Store:
        """Open the store at a local path; nothing is written.

        Raises:
            StoreError: the URI names a kind of store that does not exist, or not a folder.
        """
        if "://" in uri:
            raise StoreError(
                f"no store for '{uri.split('://')[0]}://' yet",
                where=uri,
                nearest="a local or shared folder",
                next_command="lotus-ray grid JOB.yaml --store runs/NAME",
            )
        try:
            root = Path(uri).expanduser()
        except RuntimeError as error:
            raise StoreError(f"no such folder: {error}", where=uri) from error
        if root.exists() and not root.is_dir():
            raise StoreError("the store is a file, not a folder", where=str(root))
        return cls(LocalBlobs(root.absolute()), uri, str(root.absolute()))

    def check_writable(self) -> None:
        """Create the object that marks a store, where there is none yet.

        Raises:
            StoreError: it cannot be written.
        """
        self.blobs.create(MARKER, b'{"format": 1}\n')

    def exists(self) -> bool:
        """Return whether there is a store."""
        try:
            self.blobs.read(MARKER)
        except OSError:
            return False
        return True

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
        by_cell: dict[str, list[str]] = {}
        for name in self._row_names("rows/"):
            by_cell.setdefault(name.split("/")[1], []).append(name)
        found = ((cell_id, self._latest(names)) for cell_id, names in by_cell.items())
        return {cell_id: row for cell_id, row in found if row is not None}

    def row(self, cell_id: str) -> Row | None:
        """Return the visible row of a cell, or None."""
        return self._latest(self._row_names(f"rows/{cell_id}/"))

    def next_generation(self, cell_id: str) -> int:
        """Return the generation that a new row of this cell would have."""
        rows = self._row_names(f"rows/{cell_id}/")
        return 1 + max((_generation(name) for name in rows), default=-1)

    def attempt(self, cell_id: str, generation: int) -> Attempt:
        """Return a new try at a cell without recording that it starts."""
        return Attempt(cell_id, uuid.uuid4().hex[:12], generation)

    def begin(self, cell_id: str, generation: int, about: Mapping[str, Any]) -> Attempt:
        """Record that a try at a cell starts, with facts `about` where it runs."""
        attempt = self.attempt(cell_id, generation)
        marker = json.dumps({"cell_id": cell_id, "attempt_id": attempt.attempt_id, **about})
        self.blobs.create(f"{attempt.folder}/begun.json", marker.encode())
        return attempt

    def attempts(self, cell_id: str) -> int:
        """Return how many tries at a cell were begun."""
        names = self.blobs.names(f"attempts/{cell_id}/")
        return sum(name.endswith("/begun.json") for name in names)

    def commit(
        self, attempt: Attempt, row: Mapping[str, Any], artifacts: Mapping[str, bytes]
    ) -> Row:
        """Make the row of an attempt visible, its artifacts first.

        Args:
            attempt: from `begin`.
            row: what is known of the cell; ids, generation and artifacts are added here.
            artifacts: contents by file name.

        Returns:
            The visible row: ours, or that of another writer who was first with this generation.

        Raises:
            StoreError: something cannot be written, or reads back differently.
        """
        body = {
            **row,
            "cell_id": attempt.cell_id,
            "attempt_id": attempt.attempt_id,
            "generation": attempt.generation,
            "attempts": self.attempts(attempt.cell_id),
            "artifacts": {
                name: self._put_artifact(f"{attempt.folder}/{name}", content)
                for name, content in artifacts.items()
            },
        }
        self.blobs.create(_row_name(attempt.cell_id, attempt.generation), sealed(body))
        visible = self.row(attempt.cell_id)
        if visible is None:
            raise StoreError("a committed row cannot be read back", where=self.uri)
        return visible

    def artifact(self, row: Row, name: str) -> bytes:
        """Return an artifact that a row names, its digest checked.

        Raises:
            StoreError: it is missing or differs from what the row says.
        """
        entry = row["artifacts"][name]
        try:
            content = self.blobs.read(entry["name"])
        except OSError as error:
            raise StoreError(
                f"an artifact of a committed row cannot be read: {error.strerror}",
                where=f"{self.uri}/{entry['name']}",
                next_command="lotus-ray grid JOB.yaml --force",
            ) from error
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise StoreError(
                "an artifact of a committed row changed since it was written",
                where=f"{self.uri}/{entry['name']}",
                next_command="lotus-ray grid JOB.yaml --force",
            )
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a file that is named after its content; one that exists already is as good."""
        self.blobs.create(name, content)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file that is not part of any row, such as the outcome of the last command."""
        self.blobs.replace(name, content)

    def find(self, name: str) -> bytes | None:
        """Return a file that is not part of any row, or None where there is none."""
        try:
            return self.blobs.read(name)
        except FileNotFoundError:
            return None

    def stamp(self, name: str) -> str | None:
        """Return what changes whenever a file is replaced, or None where there is none."""
        return self.blobs.stamp(name)

    def remove_all(self, prefix: str) -> None:
        """Remove what lies below a folder name and is not part of any row."""
        self.blobs.delete_all(prefix)

    def _row_names(self, prefix: str) -> list[str]:
        """Return the names of rows; whatever else lies there, such as a backup, is passed over."""
        return [name for name in self.blobs.names(prefix) if _ROW_NAME.fullmatch(name)]

    def _put_artifact(self, name: str, content: bytes) -> dict[str, Any]:
        self.blobs.create(name, content)
        digest = hashlib.sha256(content).hexdigest()
        if hashlib.sha256(self.blobs.read(name)).hexdigest() != digest:
            raise StoreError("an artifact reads back differently", where=f"{self.uri}/{name}")
        return {"name": name, "sha256": digest, "bytes": len(content)}

    def _latest(self, names: Iterable[str]) -> Row | None:
        for name in sorted(names, key=_generation, reverse=True):
            row = unsealed(self.blobs.read(name))
            if row is not None:
                return row
            _log.warning("%s/%s does not match its digest and is ignored", self.uri, name)
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row_name(cell_id: str, generation: int) -> str:
    return f"rows/{cell_id}/{generation:04d}.json"


def _generation(name: str) -> int:
    return int(name.rsplit("/", 1)[1].removesuffix(".json"))


def sealed(body: Mapping[str, Any]) -> bytes:
    """Return a file that holds a row, or another small record, and its SHA-256."""
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"sha256": "{digest}", "row": {text}}}\n'.encode()


def unsealed(content: bytes) -> Row | None:
    """Return what `sealed` wrote, or None where the file is torn or flipped."""
    try:
        envelope = json.loads(content)
        text = json.dumps(envelope["row"], sort_keys=True, allow_nan=False)
        good = envelope["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, KeyError, TypeError):
        return None
    row: Row = envelope["row"]
    return row if good else None


def _cannot_write(path: Path, needed: int, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = f"the disk is full; {needed} bytes are needed" if full else error.strerror
    return StoreError(
        f"the store cannot be written: {what}",
        where=str(path),
        next_command="lotus-ray grid JOB.yaml --store FOLDER",
    )
