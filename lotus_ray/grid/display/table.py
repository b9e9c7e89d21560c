"""What a live table shows of a grid, and how it fits a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lotus_ray.grid.display.view import LaneState, Standing

NARROW = 60  # columns, below which everything is said shorter
NAME, BAR, CLOCK = 16, 12, 6  # columns: the least of a long name; a bar; a space and minutes


def picture(standing: Standing, width: int, height: int) -> RenderableType:
    """Return the table and what stands below it, never higher than the terminal.

    Args:
        standing: of the grid.
        width: of the terminal, in columns.
        height: of the terminal, in lines; one of them is left free.

    Returns:
        A line for each lane if there is room; else for those that run, and how many others wait
        or are done.
    """
    lanes = list(standing.lanes)
    room = height - 3  # the heading, the line below the table, and one that stays free
    hidden: list[LaneState] = []
    if len(lanes) > room:
        active = [lane for lane in lanes if lane.is_active]
        shown = active[: max(room - 1, 0)]
        seen = {id(lane) for lane in shown}
        hidden = [lane for lane in lanes if id(lane) not in seen]
        lanes = shown
    parts: list[RenderableType] = [_table(standing, lanes, width)] if lanes else []
    if hidden and height > 2:
        parts.append(_line(_summary(hidden)))
    parts.append(_line(_footer(standing, width)))
    return Group(*parts)


@lru_cache(maxsize=4096)  # the same names, four times a second
def clean(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(character for character in text if character.isprintable())


def _table(standing: Standing, lanes: Sequence[LaneState], width: int) -> Table:
    """Return a table with as many columns as there is room for."""
    is_narrow = width < NARROW
    gap = 1 if is_narrow else 2
    labels = {cell.label for lane in standing.lanes for cell in lane.todo.lane.cells}
    steady = 0 if is_narrow else CLOCK + max(cell_len(clean(label)) for label in labels)
    columns: dict[str, tuple[int, list[Text | ProgressBar]]] = {
        "seed": (0, [Text(str(lane.todo.lane.seed)) for lane in lanes]),
        "": (BAR, [ProgressBar(lane.total, lane.done, width=BAR) for lane in lanes]),
        "cells": (0, [_count(lane, is_narrow) for lane in lanes]),
        "running": (steady, [_running(lane, standing.elapsed_seconds) for lane in lanes]),
        "last": (steady, [_last(lane) for lane in lanes]),
    }
    widths = {heading: _width(heading, *column) for heading, column in columns.items()}
    whole, short = _names(standing.lanes, lanes)
    names, left_out = next(
        (names, left_out)
        for names, least, left_out in _layouts(whole, short)
        if least + sum(widths[name] + gap for name in columns if name not in left_out) <= width
        or "last" in left_out  # the narrowest
    )
    kept = [heading for heading in columns if heading not in left_out]
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text("lane", no_wrap=True))  # the one that gives way where there is no room
    for heading in kept:
        table.add_column(heading, no_wrap=True, min_width=widths[heading])
    for index, name in enumerate(names):
        text = Text(name, no_wrap=True, overflow="ellipsis")
        table.add_row(text, *(columns[heading][1][index] for heading in kept))
    return table


def _layouts(whole: list[str], short: list[str]) -> list[tuple[list[str], int, tuple[str, ...]]]:
    """Return names, the columns that they need at least, and what is left out; the best first."""
    longest = max(map(cell_len, whole))
    return [
        (whole, longest, ()),
        (whole, longest, ("",)),
        (short, min(NAME, max(map(cell_len, short))), ("",)),
        (short, 0, ("", "last")),
    ]


def _width(heading: str, least: int, column: Sequence[Text | ProgressBar]) -> int:
    texts = (cell.cell_len for cell in column if isinstance(cell, Text))
    return max(len(heading), least, *texts)


def _names(every: Sequence[LaneState], lanes: Sequence[LaneState]) -> tuple[list[str], list[str]]:
    """Return the names of lanes, and short ones: without what is the same in all lanes."""
    varying = [len(set(parts)) > 1 for parts in zip(*map(_parts, every), strict=True)]
    whole = [" ".join(_parts(lane)) for lane in lanes]
    short = [" ".join(compress(_parts(lane), varying)) for lane in lanes]
    return whole, short if any(varying) else whole


def _parts(lane: LaneState) -> tuple[str, str, str]:
    of = lane.todo.lane
    return clean(of.benchmark), clean(of.model_label), clean(of.setting)


def _count(lane: LaneState, is_narrow: bool) -> Text:
    text = Text(f"{lane.done}/{lane.total}")
    if lane.failed:
        text.append(f" !{lane.failed}" if is_narrow else f", {lane.failed} failed", "red")
    return text


def _running(lane: LaneState, elapsed_seconds: float) -> Text:
    if lane.running is not None:
        label, begun = lane.running
        return Text(clean(label)).append(f" {_clock(elapsed_seconds - begun)}", "dim")
    if not lane.left:
        return Text("done", "dim")
    return Text("" if lane.is_active else "waiting", "dim")


def _last(lane: LaneState) -> Text:
    if lane.last is None:
        return Text("")
    label, status, seconds = lane.last
    if status != "done":
        return Text(f"{clean(label)} {clean(status)}", "red")
    return Text(clean(label)).append("" if seconds is None else f" {seconds:.1f} s", "dim")


def _summary(hidden: Sequence[LaneState]) -> Text:
    running = sum(lane.is_active for lane in hidden)
    done = [lane for lane in hidden if not lane.left]
    waiting = len(hidden) - running - len(done)
    failed = sum(lane.failed > 0 for lane in done)
    parts = [
        f"{running} more lanes running" if running else "",
        f"{waiting} lanes waiting" if waiting else "",
        f"{len(done)} done" if done else "",
    ]
    text = Text(", ".join(part for part in parts if part), "dim")
    return text.append(f" ({failed} with failures)", "not dim red") if failed else text


def _footer(standing: Standing, width: int) -> Text:
    is_short = width < NARROW
    total = sum(lane.total for lane in standing.lanes)
    failed = sum(lane.failed for lane in standing.lanes)
    text = Text(f"{sum(lane.done for lane in standing.lanes)}/{total} cells", "bold")
    if failed:
        text.append(f", {failed} failed", "red")
    elapsed = _clock(standing.elapsed_seconds)
    text.append(f", {elapsed}" if is_short else f", {elapsed} elapsed", "not bold")
    if (standing.seconds_left or 0) >= 1:  # below it, the estimate has run out
        left = _clock(standing.seconds_left or 0)
        text.append(f", {left} left" if is_short else f", about {left} left", "not bold")
    return text


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
