"""List a folder while other processes remove files and folders in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_under(folder: Path) -> Iterator[Path]:
    """Yield the paths of the files under a folder. A folder that vanishes meanwhile is left out.

    Raises:
        OSError: a folder is there and cannot be read.
    """
    for path, _, names in os.walk(folder, onerror=_unless_gone):
        yield from (Path(path, name) for name in names)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
