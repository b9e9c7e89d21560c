r"""Tables for a paper: a LaTeX fragment for pdflatex that needs only booktabs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.latex_signs import escaped
from lotus_ray.report.formats.shown import EMPTY, Figure, Heading, Line, Table, tables

_HEAD = r"""% Made by lotus-ray. In the preamble: \usepackage{booktabs}
% To insert the tables: \input{FILE} with the name of this file.
"""
_LEGEND = r"\textbf{bold}: best, \underline{underlined}: second best"
_PANEL = 5  # columns side by side that fit in a line of LaTeX's article class
_LONG = 26  # characters: a longer name is broken into lines
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)e([+-]\d+)")


def to_latex(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return one `table` environment for each benchmark, model and setting.

    Args:
        entries: of the report.
        against: "paper" or "notebooks" shows published figures beside the measured ones.
    """
    shown = tables(entries, against)
    if not shown:
        return f"{_HEAD}% {EMPTY}\n"
    labels = _labels(shown)
    return _HEAD + "".join(
        "\n" + "\n".join(_table(table, label)) + "\n"
        for table, label in zip(shown, labels, strict=True)
    )


def _labels(shown: Sequence[Table]) -> list[str]:
    """Return a unique label for each table, made of the letters and digits of its title."""
    names: list[str] = []
    for table in shown:
        slug = re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
        numbered = (f"tab:{slug}-{number}" for number in itertools.count(2))
        names.append(next(n for n in itertools.chain([f"tab:{slug}"], numbered) if n not in names))
    return names


def _table(table: Table, label: str) -> Iterator[str]:
    """Yield the lines of a table. A tall one is split into several environments."""
    panels = _panels(len(table.headings))
    parts = [[panel] for panel in panels] if _is_tall(table, len(panels)) else [panels]
    for index, part in enumerate(parts):
        yield r"\begin{table}[htbp]"
        yield r"\centering"
        if index:
            yield r"\addtocounter{table}{-1}"
        yield rf"\caption{{{escaped(table.title)}{', continued' if index else ''}}}"
        if not index:
            yield rf"\label{{{label}}}"
        yield r"\scriptsize"
        yield r"\setlength{\tabcolsep}{2pt}"
        for columns in part:
            yield from _panel(table, columns, part[0])
        if part is parts[-1]:
            yield from _below(table)
        yield r"\end{table}"


def _is_tall(table: Table, panels: int) -> bool:
    """Return True if all panels of a table do not fit on one page."""
    characters = sum(len(note) for note in table.notes)
    characters += sum(len(note.text) for note in table.footnotes)
    notes = len(table.notes) + characters / 100
    return panels * (len(table.lines) + 4) + notes > 58


def _panels(columns: int) -> list[slice]:
    """Split columns into panels. Later columns are accuracies, which are narrower."""
    count = -(-columns // _PANEL)
    ends = [columns * index // count for index in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _panel(table: Table, columns: slice, first: slice) -> Iterator[str]:
    """Yield the lines of one panel: some columns of all lines."""
    headings = table.headings[columns]
    is_last = columns.stop == len(table.headings)
    is_long = any(len(line.name.text) > _LONG for line in table.lines)
    kinds = (r"p{0.3\linewidth}" if is_long else "l") + "r" * (len(headings) + is_last)
    if columns != first:
        yield r"\par\medskip"
    yield rf"\begin{{tabular*}}{{\linewidth}}{{@{{\extracolsep{{\fill}}}}{kinds}@{{}}}}"
    yield r"\toprule"
    yield _row(["Method", *map(_heading, headings), *(["Seeds"] if is_last else [])])
    yield r"\midrule"
    for line in table.lines:
        figures = [_figure(figure) for figure in line.figures[columns]]
        yield _row([_name(line, is_long), *figures, *([line.seeds] if is_last else [])])
    yield r"\bottomrule"
    yield r"\end{tabular*}"


def _below(table: Table) -> Iterator[str]:
    notes = [*([_LEGEND] if table.has_marks else []), *map(_note, table.notes)]
    footnotes = [f"{_letters(note.letters)} {_note(note.text)}" for note in table.footnotes]
    notes += ["; ".join(footnotes)] if footnotes else []
    if notes:
        yield r"\par\smallskip"
        yield r"\begin{minipage}{\linewidth}\scriptsize\raggedright"
        yield from (rf"{note}\par" for note in notes)
        yield r"\end{minipage}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _heading(heading: Heading) -> str:
    return escaped(heading.text) + _letters(heading.letters)


def _name(line: Line, is_broken: bool) -> str:
    text = escaped(line.name.text)
    if is_broken:
        text = r"\raggedright\hangindent=1em " + re.sub(r"(\\_|=)", r"\1\\allowbreak{}", text)
    return (r"\quad " if line.is_published else "") + text + _letters(line.name.letters)


def _figure(figure: Figure) -> str:
    """Return a number with its spread as subscript; 5.49e-03 becomes 5.49 × 10⁻³."""
    match = _SCIENTIFIC.fullmatch(figure.mean)
    number, power, std = figure.mean, "", figure.std
    if match:
        number, exponent = match[1], int(match[2])
        power = rf"\times10^{{{exponent}}}" if exponent else ""
        std = f"{float(std) / 10.0**exponent:.2f}" if std else ""
    wrapped = (number, rf"\textbf{{{number}}}", rf"\underline{{{number}}}")[figure.mark]
    if number.startswith("-") and number != "-":
        wrapped = wrapped.replace("-", "$-$", 1)
    math = (rf"_{{\pm {std}}}" if std else "") + power
    return wrapped + (f"${math}$" if math else "") + _letters(figure.letters)


def _note(text: str) -> str:
    parts = _SCIENTIFIC.split(text)
    shown = [escaped(parts[0])]
    for number, exponent, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        shown.append(rf"${number}\times10^{{{int(exponent)}}}$" + escaped(rest))
    return "".join(shown)


def _letters(letters: str) -> str:
    return rf"\textsuperscript{{{','.join(letters)}}}" if letters else ""
