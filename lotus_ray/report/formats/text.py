"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.shown import EMPTY, Figure, Line, Table, tables

_MARKS = ("", "*", "+")
Cell = tuple[str, str]  # text that is aligned, and text after it
_LEGEND = "* best, + second best"
_SPREAD = "±"
# What a narrow terminal goes without, the first thing first
_LEFT_OUT = (
    *(METRICS[name].heading for name in ("distance", "unseen_acc")),
    _SPREAD,
    *(
        METRICS[name].heading
        for name in ("avg_gap", "test_acc", "retain_acc", "unlearn_seconds", "mia_acc", "jsd")
    ),
)


def to_table(entries: Sequence[Entry], against: str | None = None, width: int | None = None) -> str:
    """Return tables for people, with failures, undefined values and footnotes below.

    Args:
        entries: of the report.
        against: "paper" or "notebooks" shows published figures beside the measured ones.
        width: of the terminal, in columns. What does not fit is left out, and a line says so.
    """
    shown = [_text(table, width) for table in tables(entries, against)]
    return "\n".join(shown) if shown else f"{EMPTY}\n"


def _text(table: Table, width: int | None) -> str:
    """Return one table with its notes."""
    lines, left_out = _fitted(table, width)
    legend = [_LEGEND] if table.has_marks else []
    footnotes = [f"[{note.letters}] {note.text}" for note in table.footnotes]
    if left_out:
        legend.append(f"too narrow for {', '.join(left_out)}: a wider terminal or --format csv")
    return "\n".join([table.title, *lines, *legend, *table.notes, *footnotes]) + "\n"


def _fitted(table: Table, width: int | None) -> tuple[list[str], list[str]]:
    """Return the lines of a table, and what was left out so that they fit."""
    left_out: list[str] = []
    lines = _aligned(table)
    for what in _LEFT_OUT:
        if width is None or len(lines[0]) <= width:
            break
        smaller = _without(table, what)
        if smaller is not None:
            table, lines = smaller, _aligned(smaller)
            left_out.append(what)
    return lines, left_out


def _without(table: Table, what: str) -> Table | None:
    """Return a table without a column, or without spreads; None if it has none."""
    if what == _SPREAD:
        lines = [
            replace(line, figures=tuple(replace(figure, std="") for figure in line.figures))
            for line in table.lines
        ]
        has_any = any(figure.std for line in table.lines for figure in line.figures)
        return replace(table, lines=tuple(lines)) if has_any else None
    at = next((i for i, heading in enumerate(table.headings) if heading.text == what), None)
    if at is None:
        return None
    lines = [
        replace(line, figures=line.figures[:at] + line.figures[at + 1 :]) for line in table.lines
    ]
    headings = table.headings[:at] + table.headings[at + 1 :]
    return replace(table, headings=headings, lines=tuple(lines))


def _aligned(table: Table) -> list[str]:
    heads = ["Method", *(head.text + _letters(head.letters) for head in table.headings), "Seeds"]
    rows = [[_name(line), *map(_cell, line.figures), (line.seeds, "")] for line in table.lines]
    names, *figures = zip(*rows, strict=True)
    columns = [_names(heads[0], names), *map(_figures, heads[1:], figures)]
    lines = ["  ".join(cells) for cells in zip(*columns, strict=True)]
    return [lines[0], "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])]


def _names(head: str, cells: Sequence[Cell]) -> list[str]:
    texts = [head, *(text + suffix for text, suffix in cells)]
    width = max(map(len, texts))
    return [text.ljust(width) for text in texts]


def _figures(head: str, cells: Sequence[Cell]) -> list[str]:
    """Return cells of one width: figures are aligned right, marks and letters follow."""
    width = max(len(text) for text, _ in cells)
    rest = max(len(suffix) for _, suffix in cells)
    texts = [text.rjust(width) + suffix.ljust(rest) for text, suffix in cells]
    wide = max(len(head), width + rest)
    return [head.rjust(wide), *(text.rjust(wide) for text in texts)]


def _name(line: Line) -> Cell:
    return ("  " if line.is_published else "") + line.name.text, _letters(line.name.letters)


def _cell(figure: Figure) -> Cell:
    return figure.text, _MARKS[figure.mark] + _letters(figure.letters)


def _letters(letters: str) -> str:
    return f" [{','.join(letters)}]" if letters else ""
