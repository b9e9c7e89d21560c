"""Choose the view for a terminal, a pipe or a log."""

from __future__ import annotations

import os
from typing import TextIO

from lotus_ray.grid.display.view import PlainLines, View


def view_for(stream: TextIO) -> View:
    """Return a live table if a stream is a terminal that can show one, else plain lines."""
    can_append_only = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if stream.isatty() and not can_append_only and not in_ci:
        from lotus_ray.grid.display.live import LiveTable

        return LiveTable.on(stream) or PlainLines(stream)
    return PlainLines(stream)
