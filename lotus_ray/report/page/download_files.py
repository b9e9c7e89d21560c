"""Files that the page holds: the rows as CSV, and the tables as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.latex import to_latex
from lotus_ray.report.formats.rows import to_csv

MOST_BYTES = 200_000  # of all files: a larger store has its command


@dataclass(frozen=True)
class Download:
    """A file within the page."""

    name: str
    address: str  # of data


def downloads(entries: Sequence[Entry], name: str, against: str | None) -> list[Download]:
    """Return the files of a report; none if they would make the page too large.

    Args:
        entries: of the report.
        name: of the files, without an ending.
        against: as for the page.
    """
    texts = {"csv": to_csv(entries, against), "tex": to_latex(entries, against)}
    if sum(map(len, texts.values())) > MOST_BYTES:
        return []
    kinds = {"csv": "text/csv", "tex": "text/x-tex"}
    return [
        Download(
            f"{name}.{end}",
            f"data:{kinds[end]};charset=utf-8,{quote(text, _PLAIN, errors='replace')}",
        )
        for end, text in texts.items()
    ]


_PLAIN = "/:,;()=+*!@$[]{}|~ "  # characters that mean nothing else in such an address
