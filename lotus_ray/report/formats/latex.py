r"""Tables for a paper: a fragment that needs booktabs alone and compiles with pdflatex."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.shown import EMPTY, Figure, Heading, Line, Table, tables

_HEAD = r"""% Made by lotus-ray. In the preamble: \usepackage{booktabs}
% Where the tables shall stand: \input{FILE} with the name of this file.
"""
_LEGEND = r"\textbf{bold}: best, \underline{underlined}: second best"
_PANEL = 5  # columns side by side: as many as fit in a line of LaTeX's own article class
_LONG = 26  # characters of a name, beyond which it is broken
_ASCII = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    '"': "{''}",
    **{c: rf"\{c}" for c in "#$%&_{}"},
    **{c: f"${c}$" for c in "<>|"},
    **{c: f"{{{c}}}" for c in "[]*"},  # arguments of \\
}
_UNICODE = {
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "·": r"$\cdot$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "√": r"$\surd$",
    "°": r"$^{\circ}$",
    "–": "{--}",
    "—": "{---}",
    "…": r"\ldots{}",
    "‘": "{`}",
    "’": "{'}",
    "“": "{``}",
    "”": "{''}",
    "ß": r"{\ss}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "æ": r"{\ae}",
    "œ": r"{\oe}",
    "ł": r"{\l}",
    "ı": r"{\i}",
}
_CAPITALS = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega")
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"),
    *("lambda", "mu", "nu", "xi", "", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi"),
    *("chi", "psi", "omega"),  # without omicron
)
_UNICODE |= {chr(ord("α") + place): rf"$\{name}$" for place, name in enumerate(_GREEK) if name}
_UNICODE |= {c: rf"$\{name}$" for c, name in zip("ΓΔΘΛΞΠΣΦΨΩ", _CAPITALS, strict=True)}
_UNICODE["µ"] = r"$\mu$"  # the sign of micro
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_LIGATURE = re.compile(r"(?<!\{)([-,'])(?=\1)")  # not the ones that stand for a sign
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)e([+-]\d+)")


def to_latex(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return one `table` environment for each benchmark, model and setting."""
    shown = tables(entries, against)
    if not shown:
        return f"{_HEAD}% {EMPTY}\n"
    labels = _labels(shown)
    return _HEAD + "".join(
        "\n" + "\n".join(_table(table, label)) + "\n"
        for table, label in zip(shown, labels, strict=True)
    )


def escaped(text: str) -> str:
    """Return LaTeX that prints `text`; a character that pdflatex has no sign for, as U+4E2D."""
    written = "".join(_character(c) for c in unicodedata.normalize("NFC", text))
    return _LIGATURE.sub(r"\1{}", written)


def _character(c: str) -> str:
    if c.isascii():
        return _ASCII.get(c, c)
    if c in _UNICODE:
        return _UNICODE[c]
    parts = unicodedata.normalize("NFD", c)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return rf"U+{ord(c):04X}"


def _labels(shown: Sequence[Table]) -> list[str]:
    """Return a name for each table that is its own; accents and signs fall out of titles."""
    names: list[str] = []
    for table in shown:
        slug = re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
        numbered = (f"tab:{slug}-{number}" for number in itertools.count(2))
        names.append(next(n for n in itertools.chain([f"tab:{slug}"], numbered) if n not in names))
    return names


def _table(table: Table, label: str) -> Iterator[str]:
    yield r"\begin{table}[htbp]"
    yield r"\centering"
    yield rf"\caption{{{escaped(table.title)}}}"
    yield rf"\label{{{label}}}"
    yield r"\scriptsize"
    yield r"\setlength{\tabcolsep}{3pt}"
    for columns in _panels(len(table.headings)):
        yield from _panel(table, columns)
    yield from _below(table)
    yield r"\end{table}"


def _panels(columns: int) -> list[slice]:
    """Return which columns stand side by side; the later ones, accuracies, are the narrower."""
    count = -(-columns // _PANEL)
    ends = [columns * place // count for place in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _panel(table: Table, columns: slice) -> Iterator[str]:
    headings = table.headings[columns]
    is_last = columns.stop == len(table.headings)
    is_long = any(len(line.name.text) > _LONG for line in table.lines)
    kinds = (r"p{0.27\linewidth}" if is_long else "l") + "r" * (len(headings) + is_last)
    if columns.start:
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
    notes += [rf"\textsuperscript{{{note.letters}}} {_note(note.text)}" for note in table.footnotes]
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
        text = r"\raggedright\hangindent=1em " + re.sub(r"(\\_|=|\()", r"\1\\allowbreak{}", text)
    return (r"\quad " if line.is_published else "") + text + _letters(line.name.letters)


def _figure(figure: Figure) -> str:
    """Return 0.951 ±0.025 as 0.951 with the spread below; 5.49e-03 as 5.49 × 10⁻³ with its own."""
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
