"""Which code wrote a record: only the same code can make its words and its page again."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from lotus_ray.audit.predicate import Predicate
from lotus_ray.base.version import VERSION

_SOURCES = (".py", ".j2", ".css", ".json")


@cache
def writer() -> dict[str, str]:
    """Return the version of this package, and the SHA-256 of what writes records.

    A version alone is not enough: an installation from a commit has the version of the last
    release.
    """
    folder = Path(__file__).parent
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    digest = hashlib.sha256()
    for name, path in sorted(found.items()):
        if path.suffix in _SOURCES:
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return {"lotus-ray": VERSION, "lotus-ray records": digest.hexdigest()}


def is_own(record: Predicate) -> bool:
    """Return True if this code made the record."""
    return writer().items() <= record.run.versions.items()
