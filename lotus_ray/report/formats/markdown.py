"""Pipe tables as GitHub renders them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.shown import EMPTY, Figure, Heading, Line, Table, tables

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$#!])")
_LIST_OR_RULE = re.compile(r"^(\d*)([-+.)=])")
_LEGEND = "**bold**: best, *italic*: second best"
_EMPHASIS = ("", "**", "*")


def to_markdown(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return a heading, a table and a list of notes for each benchmark, model and setting.

    Args:
        entries: of the report.
        against: "paper" or "notebooks" shows published figures beside the measured ones.
    """
    shown = [_text(table) for table in tables(entries, against)]
    return "\n".join(shown) if shown else f"{EMPTY}\n"


def escaped(text: str) -> str:
    """Return Markdown that renders as `text`, also at the start of a paragraph."""
    return _LIST_OR_RULE.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text))


def _text(table: Table) -> str:
    notes = [*([_LEGEND] if table.has_marks else []), *map(escaped, table.notes)]
    notes += [f"<sup>{note.letters}</sup> {escaped(note.text)}" for note in table.footnotes]
    listed = ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join([f"### {escaped(table.title)}", "", *_pipes(table), *listed]) + "\n"


def _pipes(table: Table) -> list[str]:
    head = ["Method", *map(_heading, table.headings), "Seeds"]
    rows = [[_name(line), *map(_cell, line.figures), line.seeds] for line in table.lines]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return ["| " + " | ".join(_aligned(row, widths)) + " |" for row in (head, rule, *rows)]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        row[0].ljust(widths[0]),
        *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
    ]


def _heading(heading: Heading) -> str:
    return escaped(heading.text) + _letters(heading.letters)


def _name(line: Line) -> str:
    return ("↳ " if line.is_published else "") + _heading(line.name)


def _cell(figure: Figure) -> str:
    emphasis = _EMPHASIS[figure.mark]
    return f"{emphasis}{figure.text}{emphasis}{_letters(figure.letters)}"


def _letters(letters: str) -> str:
    return f"<sup>{','.join(letters)}</sup>" if letters else ""
