"""The style that all figures share: ink, sizes, labels and axes. matplotlib without pyplot."""

from __future__ import annotations

import math
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

WIDTH = 560.0  # points; one is one pixel on the page, where two figures stand side by side
TEXT = 13.0
EM = 0.58 * TEXT  # approximate width of a letter
INK = "#000001"  # black to the eye; the page replaces it by its own ink
GAP = 36.0  # for the tick labels and the title of a figure's last axis
_POINTS = 72  # an inch
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT - 0.5,
    "ytick.labelsize": TEXT - 0.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "text.parse_math": False,  # a $ in a name is a $
    "svg.hashsalt": "lotus-ray",
    "pdf.fonttype": 42,
}
MANY_TIMES = 5.0  # above this ratio the scale is logarithmic: good methods lie close to 0
# Ticks within a decade, by the largest ratio of values
_SUBS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (12, (1, 1.5, 2, 3, 4, 6, 8)),
    (300, (1, 2, 5)),
    (math.inf, (1,)),
)


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption. If there is nothing to draw, the caption says why."""

    title: str
    caption: str
    figure: Figure | None = None
    seen: str = ""  # what the figure shows, in a sentence


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in the style of the report. The user's matplotlibrc is ignored."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def sheet(height: float) -> Figure:
    """Return an empty figure of the common width. `height` is in points."""
    return Figure(figsize=(WIDTH / _POINTS, height / _POINTS), dpi=_POINTS)


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes to a figure. Distances are in points, from the upper left corner."""
    wide, high = figure.get_size_inches() * _POINTS
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def plain(text: str) -> str:
    """Return a name without characters that cannot be drawn or be in XML, such as controls."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def columns(text: str) -> int:
    """Return the width of a text in letters. East Asian letters count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def cut(text: str, width: int) -> str:
    """Return a name of at most `width` letters."""
    text = plain(text)
    while columns(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def lines_of(text: str, width: int, most: int = 3) -> list[str]:
    """Return a name in at most `most` lines of at most `width` letters."""
    parted = plain(text).replace("(", " (", 1)
    lines = textwrap.wrap(parted, width, break_on_hyphens=False) or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], cut(" ".join(lines[most - 1 :]), width)]
    return [cut(line, width) for line in lines]


def number(value: float) -> str:
    """Return the label of a tick, such as 0.05 or 7.5e−4."""
    text = f"{value:g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"
    mantissa, mark, exponent = text.partition("e")
    if mark:
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text.replace("-", "−")


def spans_much(*sets: Iterable[float]) -> bool:
    """Return True if axes of some sets of values need a logarithmic scale.

    Neighbours have one kind of scale: logarithmic if any set spans more than MANY_TIMES, and none
    has a value that is not above 0.
    """
    drawn = [values for values in map(list, sets) if values]
    if any(min(values) <= 0 for values in drawn):
        return False
    return any(max(values) / min(values) > MANY_TIMES for values in drawn)


def scale(
    axes: Axes, which: str, values: Iterable[float], ticks: int = 5, log: bool = False
) -> None:
    """Scale an axis and label it in plain numbers.

    Args:
        axes: the axes.
        which: "x" or "y".
        values: that are drawn.
        ticks: largest number of intervals between ticks.
        log: the scale is logarithmic: see `spans_much`.
    """
    drawn = list(values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log and drawn:
        low, high = min(drawn), max(drawn)
        axes.set(**{f"{which}scale": "log"})
        subs = next(subs for most, subs in _SUBS if high / low < most)
        axis.set_major_locator(LogLocator(subs=subs, numticks=max(ticks + 1, len(subs) * 3)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def space_ticks(figure: Figure) -> None:
    """Leave out tick labels along x that would print over their neighbours, once all is drawn."""
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        ticks = [tick for tick in axes.xaxis.get_majorticklocs() if low <= tick <= high]
        texts = axes.xaxis.get_major_formatter().format_ticks(ticks)
        points = np.array([(tick, 0.0) for tick in ticks]).reshape(-1, 2)
        places: list[float] = axes.transData.transform(points)[:, 0].tolist()
        kept, end = [], -math.inf
        for tick, text, place in zip(ticks, texts, places, strict=True):
            half = EM * len(text) / 2
            if place - half > end + EM / 2:
                kept.append((tick, text))
                end = place + half
        if axes.axison:
            axes.set_xticks([tick for tick, _ in kept], [text for _, text in kept])


def mark_gold(axes: Axes, value: float | None, across: bool = True, named: bool = False) -> None:
    """Draw a dotted line at the gold standard's value.

    Args:
        axes: the axes.
        value: of the gold standard; None draws nothing.
        across: the value is on the x axis, otherwise on the y axis.
        named: write "gold" at its end.
    """
    if value is None:
        return
    draw = axes.axvline if across else axes.axhline
    draw(value, color=INK, linestyle=":", linewidth=1.2, label="_gold")
    if named:
        place = (value, 1.0) if across else (1.0, value)
        transform = axes.get_xaxis_transform() if across else axes.get_yaxis_transform()
        side = "center" if across else "right"
        axes.text(*place, "gold", transform=transform, fontsize=TEXT - 1, ha=side, va="bottom")
