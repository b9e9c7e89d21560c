"""1,000 cells that sleep, at 64 places that do nothing else: how well they are filled.

The dispatcher and the search algorithm are the real ones. Trials and places are coroutines, and the
clock jumps to the next moment at which something happens: no second is slept, and no load of the
machine is measured.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.tune.search import Searcher

from lotus_ray.cluster.cell_search import CellSearch
from lotus_ray.cluster.dispatcher import Ask, Dispatcher, Ended
from lotus_ray.job.makespan import ideal_makespan
from lotus_ray.job.ready import ReadyTasks, Task
from lotus_ray.job.spans import Filling, Span

PLACES = 64
GROUPS, METHODS = 40, 24  # of each group: beside its original


class JumpingClock(selectors.DefaultSelector):
    """Where a loop would wait, its time passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


def run_at_once(story: Coroutine[Any, Any, Filling]) -> Filling:
    """Run a coroutine on a loop whose clock jumps."""
    clock = JumpingClock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(story)
    finally:
        loop.close()


def sleeping_cells() -> list[Task]:
    """Return 1,000 cells of 0.5 to 3 s: originals, a gold standard each, and methods."""
    draw, cells = random.Random(0), []
    for group in range(GROUPS):
        original = f"o{group}"
        cells.append(Task(original, original, group, draw.uniform(1, 3)))
        cells.append(Task(f"g{group}", "gold", group, draw.uniform(1, 3), after=original))
        cells += [
            Task(f"{group}-{number}", "method", group, draw.uniform(0.5, 3), needs=original)
            for number in range(METHODS - 1)
        ]
    return cells


async def run(cells: list[Task]) -> Filling:
    """Run cells as the command does; return when each ran."""
    there = Dispatcher([b""] * GROUPS, len(cells))
    search = CellSearch(
        ReadyTasks(cells),
        {cell.cell_id: {"cell": cell.cell_id} for cell in cells},
        lambda: PLACES,
        lambda dropped: None,
    )
    by_id, spans = {cell.cell_id: cell for cell in cells}, list[Span]()
    clock = asyncio.get_running_loop().time

    async def trial(name: str, cell: Task) -> None:
        await there.run(Ask(cell.cell_id, cell.group, cell.seconds, cell.after))
        moved, seen = None, None
        while not isinstance(moved := await there.follow(cell.cell_id, seen), Ended):
            seen = moved
        search.on_trial_complete(name)

    async def place(name: str) -> None:
        number, loaded = 0, list[int]()
        while not await there.is_over():
            number += 1
            claim = await there.claim(name, "start", number, loaded)
            if claim is None:
                continue
            begin = clock()
            await asyncio.sleep(by_id[claim.cell_id].seconds)
            spans.append(Span(claim.cell_id, name, begin, clock()))
            loaded = [claim.group, *loaded[:1]]
            await there.ended(name, claim.cell_id, Ended(spans[-1]))

    places = [asyncio.ensure_future(place(str(number))) for number in range(PLACES)]
    trials: list[asyncio.Task[None]] = []
    while (config := search.suggest(name := str(len(trials)))) != Searcher.FINISHED:
        if isinstance(config, dict):
            trials.append(asyncio.ensure_future(trial(name, by_id[config["cell"]])))
        await asyncio.sleep(0 if config else 0.005)
    await asyncio.gather(*trials, *places)
    return Filling(PLACES, spans)


def test_a_thousand_cells_fill_64_places() -> None:
    cells = sleeping_cells()
    assert len(cells) == 1000
    filling = run_at_once(run(cells))
    ideal = ideal_makespan(
        {cell.cell_id: cell.seconds for cell in cells},
        {cell.cell_id: [cell.needs] for cell in cells if cell.needs},
        PLACES,
    )
    assert sorted(span.cell_id for span in filling.spans) == sorted(c.cell_id for c in cells)
    makespan = max(span.end for span in filling.spans) - min(s.begin for s in filling.spans)
    print(f"filled {filling.efficiency:.3f}, makespan / ideal {makespan / ideal:.3f}")
    assert filling.efficiency is not None
    assert filling.efficiency >= 0.9
    assert makespan / ideal <= 1.05
