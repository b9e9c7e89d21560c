"""The style that all figures share: ink, sizes, labels and axes. matplotlib without pyplot."""

from __future__ import annotations

import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

WIDTH = 380.0  # points; one is one pixel on the page, so it nearly fits on a phone
TEXT = 10.5
EM = 0.58 * TEXT  # approximate width of a letter
INK = "#000001"  # black to the eye; the page replaces it by its own ink
GAP = 30.0  # for the tick labels and the title of a figure's last axis
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
_MANY_TIMES = 30.0  # above this ratio the scale is logarithmic


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption. If there is nothing to draw, the caption says why."""

    title: str
    caption: str
    figure: Figure | None = None


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


def scale(
    axes: Axes, which: str, values: Iterable[float], ticks: int = 5, many: float = _MANY_TIMES
) -> None:
    """Scale an axis and label it in plain numbers.

    Args:
        axes: the axes.
        which: "x" or "y".
        values: that are drawn.
        ticks: largest number of intervals between ticks.
        many: the scale is logarithmic if the largest value is more than `many` times the smallest.
    """
    drawn = list(values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = min(drawn, default=0.0), max(drawn, default=0.0)
    if low > 0 and high / low > many:
        axes.set(**{f"{which}scale": "log"})
        few = high / low < 300
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=ticks + 1))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
