"""The live table of a grid, fitted to the size of the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lotus_ray.grid.display.state import GridState, GroupState

NARROW = 60  # columns; a narrower terminal gets shorter texts
NAME, BAR, CLOCK = 16, 12, 6  # columns: least width of a long name; a bar; a space and minutes


def grid_table(grid_state: GridState, width: int, height: int) -> RenderableType:
    """Return the table and the lines below it, never higher than the terminal.

    Args:
        grid_state: progress of the grid.
        width: of the terminal, in columns.
        height: of the terminal, in lines. One of them stays free.

    Returns:
        A line for each group if they fit. Otherwise a line for each running group, and how many
        others wait or are done.
    """
    groups = list(grid_state.groups)
    room = height - 3  # the heading, the line below the table, and one that stays free
    hidden: list[GroupState] = []
    if len(groups) > room:
        active = [group for group in groups if group.is_active]
        shown = active[: max(room - 1, 0)]
        seen = {id(group) for group in shown}
        hidden = [group for group in groups if id(group) not in seen]
        groups = shown
    parts: list[RenderableType] = [_table(grid_state, groups, width)] if groups else []
    if hidden and height > 2:
        parts.append(_line(_summary(hidden)))
    parts.append(_line(_footer(grid_state, width)))
    return Group(*parts)


@lru_cache(maxsize=4096)  # the same names, four times a second
def clean(text: str) -> str:
    """Return a text without control characters for the terminal."""
    return "".join(character for character in text if character.isprintable())


def _table(grid_state: GridState, groups: Sequence[GroupState], width: int) -> Table:
    """Return a table with as many columns as fit."""
    is_narrow = width < NARROW
    gap = 1 if is_narrow else 2
    labels = {cell.label for group in grid_state.groups for cell in group.work_order.group.cells}
    steady = 0 if is_narrow else CLOCK + max(cell_len(clean(label)) for label in labels)
    columns: dict[str, tuple[int, list[Text | ProgressBar]]] = {
        "seed": (0, [Text(str(group.work_order.group.seed)) for group in groups]),
        "": (BAR, [ProgressBar(group.total, group.done, width=BAR) for group in groups]),
        "cells": (0, [_count(group, is_narrow) for group in groups]),
        "running": (steady, [_running(group, grid_state.elapsed_seconds) for group in groups]),
        "last": (steady, [_last(group) for group in groups]),
    }
    widths = {heading: _width(heading, *column) for heading, column in columns.items()}
    full, short = _names(grid_state.groups, groups)
    names, left_out = next(
        (names, left_out)
        for names, least, left_out in _layouts(full, short)
        if least + sum(widths[name] + gap for name in columns if name not in left_out) <= width
        or "last" in left_out  # the narrowest
    )
    kept = [heading for heading in columns if heading not in left_out]
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text("group", no_wrap=True))  # this column shrinks if there is no room
    for heading in kept:
        table.add_column(heading, no_wrap=True, min_width=widths[heading])
    for index, name in enumerate(names):
        text = Text(name, no_wrap=True, overflow="ellipsis")
        table.add_row(text, *(columns[heading][1][index] for heading in kept))
    return table


def _layouts(full: list[str], short: list[str]) -> list[tuple[list[str], int, tuple[str, ...]]]:
    """Return names, their least width, and the columns to leave out; the best layout first."""
    longest = max(map(cell_len, full))
    return [
        (full, longest, ()),
        (full, longest, ("",)),
        (short, min(NAME, max(map(cell_len, short))), ("",)),
        (short, 0, ("", "last")),
    ]


def _width(heading: str, least: int, column: Sequence[Text | ProgressBar]) -> int:
    texts = (cell.cell_len for cell in column if isinstance(cell, Text))
    return max(len(heading), least, *texts)


def _names(
    every: Sequence[GroupState], groups: Sequence[GroupState]
) -> tuple[list[str], list[str]]:
    """Return full and short names of groups. Short ones omit parts that all groups share."""
    varying = [len(set(parts)) > 1 for parts in zip(*map(_parts, every), strict=True)]
    full = [" ".join(_parts(group)) for group in groups]
    short = [" ".join(compress(_parts(group), varying)) for group in groups]
    return full, short if any(varying) else full


def _parts(group: GroupState) -> tuple[str, str, str]:
    of = group.work_order.group
    return clean(of.benchmark), clean(of.model_label), clean(of.setting)


def _count(group: GroupState, is_narrow: bool) -> Text:
    text = Text(f"{group.done}/{group.total}")
    if group.failed:
        text.append(f" !{group.failed}" if is_narrow else f", {group.failed} failed", "red")
    return text


def _running(group: GroupState, elapsed_seconds: float) -> Text:
    if group.running:
        label, begun = min(group.running.values(), key=lambda each: each[1])
        more = f" +{len(group.running) - 1}" if len(group.running) > 1 else ""
        clock = f" {_clock(elapsed_seconds - begun)}"
        return Text(clean(label)).append(clock, "dim").append(more, "dim")
    if not group.left:
        return Text("done", "dim")
    return Text("" if group.is_active else "waiting", "dim")


def _last(group: GroupState) -> Text:
    if group.last is None:
        return Text("")
    label, status, seconds = group.last
    if status != "done":
        return Text(f"{clean(label)} {clean(status)}", "red")
    return Text(clean(label)).append("" if seconds is None else f" {seconds:.1f} s", "dim")


def _summary(hidden: Sequence[GroupState]) -> Text:
    """Return how many of the hidden groups run, wait and are done."""
    running = sum(group.is_active for group in hidden)
    done = [group for group in hidden if not group.left]
    waiting = len(hidden) - running - len(done)
    failed = sum(group.failed > 0 for group in done)
    parts = [
        f"{running} more groups running" if running else "",
        f"{waiting} groups waiting" if waiting else "",
        f"{len(done)} done" if done else "",
    ]
    text = Text(", ".join(part for part in parts if part), "dim")
    return text.append(f" ({failed} with failures)", "not dim red") if failed else text


def _footer(grid_state: GridState, width: int) -> Text:
    """Return the line below the table: cells done and failed, time elapsed and left."""
    is_short = width < NARROW
    total = sum(group.total for group in grid_state.groups)
    failed = sum(group.failed for group in grid_state.groups)
    text = Text(f"{sum(group.done for group in grid_state.groups)}/{total} cells", "bold")
    running = sum(len(group.running) for group in grid_state.groups)
    if running > 1 and not is_short:  # of one, the table says which
        text.append(f", {running} running", "not bold")
    if failed:
        text.append(f", {failed} failed", "red")
    elapsed = _clock(grid_state.elapsed_seconds)
    text.append(f", {elapsed}" if is_short else f", {elapsed} elapsed", "not bold")
    if (grid_state.seconds_left or 0) >= 1:  # below it, the estimate has run out
        left = _clock(grid_state.seconds_left or 0)
        text.append(f", {left} left" if is_short else f", about {left} left", "not bold")
    return text


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
