from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from lotus_ray.grid.display.state import GridState, GroupState
from lotus_ray.grid.display.table import clean, grid_table

LABELS = ("Original", "Gold Std", "SalUn", "LoTUS")


def group(
    benchmark: str = "CIFAR-10",
    seed: int = 1,
    done: int = 0,
    running: Mapping[str, float] | None = None,
    last: tuple[str, str, float | None] | None = None,
    failed: int = 0,
) -> GroupState:
    """A group of four cells, some of them done."""
    cells = [SimpleNamespace(label=label, cell_id=label) for label in LABELS]
    of = SimpleNamespace(
        benchmark=benchmark, model_label="ViT", setting="instance_10pct", seed=seed, cells=cells
    )
    work_order: Any = SimpleNamespace(group=of)
    left: Any = cells[done:]
    begun = {f"id of {label}": (label, at) for label, at in (running or {}).items()}
    return GroupState(work_order, left, len(cells), failed, begun, last)


def drawn(
    groups: Sequence[GroupState], width: int = 120, height: int = 24, left: float | None = None
) -> list[str]:
    """Draw groups 75 seconds after the start; return what a terminal shows."""
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    console.print(grid_table(GridState(groups, 75.0, left), width, height))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


BUSY = group(
    done=2, running={"SalUn": 10.0}, last=("Gold Std", "diverged", None), failed=1, seed=3407
)
THROUGH = group(done=4, last=("LoTUS", "done", 3.21))


def test_of_several_running_cells_the_first_to_begin_is_shown() -> None:
    lines = drawn([group(running={"SalUn": 30.0, "LoTUS": 20.0, "Gold Std": 40.0})])
    assert re.split(r"  +", lines[1])[3] == "LoTUS 0:55 +2"


def test_a_group_is_a_line() -> None:
    """SalUn began at 10 s and it is 75 s now: 1:05. 2 + 4 + 0 of 12 cells are done."""
    lines = drawn([BUSY, THROUGH, group("MUFAC")], left=400.0)
    assert re.split(r"  +", lines[0]) == ["group", "seed", "cells", "running", "last"]
    assert [re.split(r"  +", line.replace("━", "")) for line in lines[1:4]] == [
        ["CIFAR-10 ViT instance_10pct", "3407", "2/4, 1 failed", "SalUn 1:05", "Gold Std diverged"],
        ["CIFAR-10 ViT instance_10pct", "1", "4/4", "done", "LoTUS 3.2 s"],
        ["MUFAC ViT instance_10pct", "1", "0/4", "waiting"],
    ]
    assert [line.count("━") for line in lines[1:4]] == [6, 12, 0]
    assert lines[4:] == ["6/12 cells, 1 failed, 1:15 elapsed, about 6:40 left"]


def test_what_is_left_is_not_said_where_nobody_knows() -> None:
    assert drawn([group()])[-1] == "0/4 cells, 1:15 elapsed"
    assert drawn([THROUGH], left=0.0)[-1] == "4/4 cells, 1:15 elapsed"


def test_narrow_terminals_show_less() -> None:
    """At 70 columns the names lose what all groups share; at 40 the last cell goes too."""
    groups = [BUSY, group("[red]x", running={"Original": 15.0})]
    assert [re.split(r"  +", line) for line in drawn(groups, width=70)[1:3]] == [
        ["CIFAR-10", "3407", "2/4, 1 failed", "SalUn 1:05", "Gold Std diverged"],
        ["[red]x", "1", "0/4", "Original 1:00"],
    ]
    assert drawn(groups, width=40, left=3700.0) == [
        "group    seed cells  running",
        "CIFAR-10 3407 2/4 !1 SalUn 1:05",
        "[red]x   1    0/4    Original 1:00",
        "2/8 cells, 1 failed, 1:15, 1:01:40 left",
    ]


def test_names_are_no_markup_and_no_commands() -> None:
    (line,) = drawn([group("[red]x[/red]\x1b[31m\n\x07:smile:")], width=100)[1:2]
    assert line.startswith("[red]x[/red][31m:smile: ViT instance_10pct  1 ")
    assert clean("a\x9b1mb\u202ec\td") == "a1mbcd"


def many() -> list[GroupState]:
    """300 groups: 30 done, two of them with failures; 6 run; 264 wait."""
    done = [group(seed=seed, done=4, failed=int(seed < 2)) for seed in range(30)]
    waiting = [group(seed=seed) for seed in range(36, 300)]
    return [*done, *(group(seed=seed, running={"LoTUS": 1.0}) for seed in range(30, 36)), *waiting]


def test_groups_that_run_come_first_and_the_others_are_counted() -> None:
    lines = drawn(many(), width=80)
    assert [line.split()[-4] for line in lines[1:7]] == ["30", "31", "32", "33", "34", "35"]
    assert all(line.endswith("0/4    LoTUS 1:14") for line in lines[1:7])
    assert lines[7:] == [
        "264 groups waiting, 30 done (2 with failures)",
        "120/1200 cells, 6 running, 2 failed, 1:15 elapsed",
    ]


def test_more_run_than_there_are_lines() -> None:
    """8 lines: the heading, 4 groups, the summary, the footer and one that stays free."""
    lines = drawn(many(), width=80, height=8)
    assert len(lines) == 7
    assert lines[5] == "2 more groups running, 264 groups waiting, 30 done (2 with failures)"


@pytest.mark.parametrize("height", range(1, 30))
@pytest.mark.parametrize("width", [8, 20, 40, 80])
def test_it_never_exceeds_the_terminal(width: int, height: int) -> None:
    lines = drawn(many(), width, height)
    assert len(lines) <= max(height - 1, 1)
    assert lines[-1].startswith("120/120")
    assert len(drawn(many()[25:40], width, height)) <= max(height - 1, 1)


def test_failures_are_red() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(grid_table(GridState([BUSY], 75.0), 80, 24))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "\x1b[31m, 1 failed\x1b[0m" in said
    assert "\x1b[31mGold Std diverged\x1b[0m" in said
