"""The terminal that a command writes to."""

from __future__ import annotations

import shutil
import sys


def width() -> int | None:
    """Return the columns of the terminal; None if stdout is a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
