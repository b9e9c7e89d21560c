"""The tables of the report as HTML to be shown in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

from lotus_ray.report.entries import Entry, groups
from lotus_ray.report.page.tables import table_of
from lotus_ray.report.page.templates import rendered


def to_notebook(entries: Sequence[Entry]) -> str:
    """Return tables with their notes, as HTML without the rest of a page."""
    tables = [(group.heading, table_of(group)) for group in groups(entries)]
    return rendered("notebook.html.j2", tables=tables)


def in_frame(page: str, height: int = 640) -> str:
    """Return a frame that shows a whole page within a notebook.

    Args:
        page: HTML.
        height: of the frame, in pixels.
    """
    return (
        '<iframe title="report" sandbox="allow-scripts allow-downloads" width="100%" '
        f'height="{height}" style="border: 0" srcdoc="{html.escape(page)}"></iframe>'
    )
