"""Keyed commitments to sample ids: a record names no id, and the holder of the key can check one.

A plain hash of an id that can be guessed can be reversed by trying all ids. An HMAC cannot, without
its key.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lotus_ray.base.errors import JobError

VARIABLE = "LOTUS_RAY_COMMITMENT_KEY"
ALGORITHM = "HMAC-SHA256"
_LEAST = 16  # bytes of a key


@dataclass(frozen=True, repr=False)
class CommitmentKey:
    """A secret key. Its methods return HMAC-SHA256 in hexadecimal, each in a domain of its own."""

    secret: bytes

    @property
    def check(self) -> str:
        """A value that tells whether two records were made with one key."""
        return self._mac("key", "")

    def tag(self, sample_id: str) -> str:
        """Return the commitment to one id."""
        return self._mac("id", sample_id)

    def tags(self, sample_ids: Iterable[str]) -> list[str]:
        """Return the commitments to some ids, each once, sorted: their order says nothing."""
        return sorted({self.tag(sample_id) for sample_id in sample_ids})

    def root(self, sample_ids: Iterable[str]) -> str:
        """Return one commitment to a set of ids."""
        return self.root_of(self.tags(sample_ids))

    def root_of(self, tags: Iterable[str]) -> str:
        """Return one commitment to a set of ids, of which each is given as its own commitment."""
        return self._mac("set", "\n".join(tags))

    def seal(self, text: str) -> str:
        """Return a commitment to a text that depends on ids, such as a plain digest of them."""
        return self._mac("text", text)

    def _mac(self, domain: str, text: str) -> str:
        message = f"lotus-ray {domain}\0{text}".encode()
        return hmac.new(self.secret, message, "sha256").hexdigest()


def read_key(path: Path | None) -> CommitmentKey | None:
    """Read a key from a file, or from the environment; None if neither is given.

    Raises:
        JobError: the file cannot be read, or the key is shorter than 16 bytes.
    """
    where = str(path) if path else VARIABLE
    try:
        content = path.read_bytes() if path else os.environ.get(VARIABLE, "").encode()
    except OSError as error:
        raise JobError(
            f"the commitment key cannot be read: {error.strerror}",
            where=where,
            next_command=f"openssl rand -hex 32 > {path}",
        ) from error
    secret = content.strip()
    if not secret and path is None:
        return None
    if len(secret) < _LEAST:
        raise JobError(
            f"the commitment key has {len(secret)} bytes, and needs {_LEAST}: a short one is found",
            where=where,
            next_command="openssl rand -hex 32",
        )
    return CommitmentKey(secret)


def new_key(path: Path) -> CommitmentKey:
    """Write a random key to a new file that only its owner can read; return it.

    Raises:
        FileExistsError: the file exists.
        OSError: it cannot be written.
    """
    secret = secrets.token_hex(32)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(secret + "\n")
    return CommitmentKey(secret.encode())
