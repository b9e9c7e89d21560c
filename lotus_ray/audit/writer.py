"""Which code wrote a record: only the same code can make its words and its page again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from lotus_ray.audit.predicate import Predicate
from lotus_ray.base.version import VERSION

_SOURCES = (".py", ".j2", ".css", ".json")


def _digest() -> str:
    """Return the SHA-256 of what writes records: the files of this package."""
    folder = Path(__file__).parent
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    digest = hashlib.sha256()
    for name, path in sorted(found.items()):
        if path.suffix in _SOURCES:
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


# A version alone is not enough: an installation from a commit has that of the last release. Files
# are read at once: an update while a command runs does not change what it runs.
WRITER: Final = {"lotus-ray": VERSION, "lotus-ray records": _digest()}


def is_own(record: Predicate) -> bool:
    """Return True if this code made the record."""
    return WRITER.items() <= record.run.versions.items()
