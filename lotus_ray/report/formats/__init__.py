"""Entries -> text, one file per format. Only the formats for people round numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.latex import to_latex
from lotus_ray.report.formats.markdown import to_markdown
from lotus_ray.report.formats.rows import COLUMNS, to_csv, to_json
from lotus_ray.report.formats.text import to_table


class Format(Protocol):
    """Turns entries into the text of a report, on request beside published figures."""

    def __call__(self, entries: Sequence[Entry], against: str | None = None) -> str:
        """Return the text; `against` is "paper", "notebooks" or None."""


FORMATS: dict[str, Format] = {
    "table": to_table,
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
}

__all__ = [
    "COLUMNS",
    "FORMATS",
    "Format",
    "to_csv",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_table",
]
