"""Objects under names: the one seam between the store and where its bytes lie."""

from __future__ import annotations

from typing import Protocol


class Objects(Protocol):
    """A place for objects. Names are relative paths with forward slashes.

    A place that refuses, or does not answer, is a StoreError.
    """

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError."""

    def create(self, name: str, content: bytes) -> bool:
        """Create a small object whole, only where none exists; return whether it is this call's.

        One that exists and is known to be this call's own, whose reply was lost, is a success.
        """

    def replace(self, name: str, content: bytes) -> None:
        """Create an object of any size whole, or put it in the place of the one that exists."""

    def delete_all(self, prefix: str) -> None:
        """Remove what lies below a folder name; what cannot be removed stays."""

    def etag(self, name: str) -> str | None:
        """Return what changes when an object gets other content, or None where there is none."""

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names that start with `prefix`, a folder name with its slash.

        Names of hidden files, which begin with a dot, are left out.
        """

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of the folders right below one, each with its slash.

        An empty prefix is the place itself. A folder of files may be empty.
        """
