"""The folder of an answered request: its record, the files that it vouches for, and the chain.

record.json             the record: an in-toto Statement in a DSSE envelope
weights.safetensors     the model after
page.html               the record for a person
chain/0001.json …       the earlier records, as they were when this one was made
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from securesystemslib.dsse import Envelope

from lotus_ray.audit.envelope import read_envelope, read_statement
from lotus_ray.audit.predicate import Predicate
from lotus_ray.base.errors import RecordError

RECORD = "record.json"
WEIGHTS = "weights.safetensors"
FAILED_WEIGHTS = "FAILED-A-GATE.safetensors"
PAGE = "page.html"
CHAIN = "chain"
_PARTIAL = f".{RECORD}.partial"  # a record that is being signed


@dataclass(frozen=True)
class Record:
    """A record that was read. Nothing of it is verified."""

    folder: Path
    content: bytes
    envelope: Envelope
    subjects: dict[str, str]  # SHA-256 by name
    predicate: Predicate

    @property
    def digest(self) -> str:
        """SHA-256 of the file, which the next record of the chain names."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def chain_names(self) -> list[str]:
        """The names of the files of the earlier records, the first one first."""
        return [chain_name(number) for number in range(1, self.predicate.chain.position)]

    def sha256_of(self, name: str) -> str:
        """Return the SHA-256 of a file of the folder.

        Raises:
            RecordError: it is missing, no plain file, or cannot be read.
        """
        with open_plain(self.folder, name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def chain_name(number: int) -> str:
    """Return the name of the file of an earlier record; the first one has number 1."""
    return f"{CHAIN}/{number:04d}.json"


def open_plain(folder: Path, name: str) -> BufferedReader:
    """Open a file of a folder, for its bytes. A link on its way is refused: it may lead anywhere.

    Raises:
        RecordError: it is missing, no plain file, or cannot be read.
    """
    path = folder / name
    try:
        links = [each for each in (path, *path.parents[: name.count("/")]) if each.is_symlink()]
        if links or (path.exists() and not path.is_file()):
            raise RecordError(f"{name} is no plain file", where=str(folder))
        return path.open("rb")
    except FileNotFoundError as error:
        raise RecordError(f"{name} is missing", where=str(folder)) from error
    except OSError as error:
        raise RecordError(f"{name} cannot be read: {error.strerror}", where=str(folder)) from error


def read_record(folder: Path) -> Record:
    """Read the record of a folder.

    Raises:
        RecordError: there is none, or it is damaged.
    """
    if not (folder / RECORD).exists():
        raise RecordError(
            "there is no record here",
            where=str(folder),
            next_command="lotus-ray forget --help",
        )
    with open_plain(folder, RECORD) as file:
        content = file.read()
    envelope = read_envelope(content, RECORD)
    subjects, predicate = read_statement(envelope, RECORD)
    return Record(folder, content, envelope, subjects, predicate)


def replace_record(folder: Path, content: bytes) -> None:
    """Replace the file of a record in one step.

    Raises:
        RecordError: the folder cannot be written.
    """
    partial = folder / _PARTIAL
    try:
        partial.write_bytes(content)
        os.replace(partial, folder / RECORD)  # noqa: PTH105
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RecordError(
            f"the record cannot be written: {error.strerror}", where=str(folder)
        ) from error


def remove_partial(folder: Path) -> None:
    """Remove what a signing that was killed left in a folder.

    Raises:
        RecordError: the folder cannot be written.
    """
    try:
        (folder / _PARTIAL).unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(
            f"the record cannot be written: {error.strerror}", where=str(folder)
        ) from error
