"""The interface between the store and its bytes: objects by name, in a folder or a bucket."""

from __future__ import annotations

from typing import Protocol


class Objects(Protocol):
    """A folder or a bucket. Names are relative paths with forward slashes.

    Every method raises StoreError if the disk or server refuses, or does not answer.
    """

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError."""

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Return `size` bytes of an object from `start` on; raises FileNotFoundError.

        Fewer where the object ends.
        """

    def create(self, name: str, content: bytes) -> bool:
        """Create a small object in one step, only if none exists. Return True if this call did.

        If a reply was lost, but the object is certainly from this call, this also returns True.
        """

    def replace(self, name: str, content: bytes) -> None:
        """Create or replace an object of any size in one step."""

    def replace_proven(self, name: str, content: bytes) -> None:
        """Create or replace an object, and make sure that exactly these bytes are stored.

        The proof is the checksum that the server computed of what it received. Where it gives
        none that this process can compute too, the object is read back.

        Raises:
            StoreError: other bytes are stored.
        """

    def delete_all(self, prefix: str) -> None:
        """Remove all objects under `prefix`. Objects that cannot be removed stay."""

    def etag(self, name: str) -> str | None:
        """Return a tag that changes with an object's content, or None if there is no object."""

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names that start with `prefix`, a folder name with its slash.

        Names of hidden files, which begin with a dot, are not returned.
        """

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of each object of `names(prefix)` in bytes, in the same order."""

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of the folders directly in `prefix`, each with its slash.

        An empty prefix is the top folder. On a disk, a folder may be empty.
        """
