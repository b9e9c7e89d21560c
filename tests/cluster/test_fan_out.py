"""1,000 cells that sleep, at 64 places that do nothing else: how well they are filled.

The dispatcher and the search algorithm are the real ones. Trials and places are coroutines, and the
clock jumps to the next moment at which something happens: no second is slept, and no load of the
machine is measured.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.tune.search import Searcher

from lotus_ray.cluster import dispatcher
from lotus_ray.cluster.cell_search import CellSearch
from lotus_ray.cluster.dispatcher import Dispatcher
from lotus_ray.cluster.messages import Ask, Ended
from lotus_ray.job.makespan import ideal_makespan
from lotus_ray.job.ready import ReadyTasks, Task
from lotus_ray.job.spans import Filling, Span
from tests.job.test_makespan import published

GROUPS, METHODS = 40, 24  # of each group: beside its original


@pytest.fixture(autouse=True)
def no_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """No place dies here, so none has to give signs of life."""
    monkeypatch.setattr(dispatcher, "SILENT_SECONDS", math.inf)


class JumpingClock(selectors.DefaultSelector):
    """Where a loop would wait, its time passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += max(timeout, 1e-6) if timeout else 0.0  # less would not change a large number
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


def published_cells() -> list[Task]:
    """Return the 30 cells of jobs/imagenet.yaml. Each takes the minutes that the paper says."""
    costs, needs = published()
    return [
        Task(cell, cell, int(cell.split()[-1]), cost, needs.get(cell, [None])[0])
        for cell, cost in costs.items()
    ]


async def run(cells: list[Task], places: int, commit: float = 0.0) -> Filling:
    """Run cells as the command does; return when each ran. Commits overlap the next cell."""
    there = Dispatcher([b""] * GROUPS, len(cells))
    search = CellSearch(
        ReadyTasks(cells),
        {cell.cell_id: {"cell": cell.cell_id} for cell in cells},
        lambda: places,
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
            span = Span(claim.cell_id, name, begin, clock())
            spans.append(span)
            loaded = [claim.group, *loaded[:1]]
            is_original = by_id[claim.cell_id].needs is None
            if commit and not is_original:
                await asyncio.gather(*commits.pop(name, []))  # one at a time
                await there.trained(name)
                commits[name] = [asyncio.ensure_future(end(name, span))]
            else:
                await there.ended(name, claim.cell_id, Ended(span))

    commits: dict[str, list[asyncio.Task[None]]] = {}

    async def end(name: str, span: Span) -> None:
        await asyncio.sleep(commit)
        await there.ended(name, span.cell_id, Ended(span))

    workers = [asyncio.ensure_future(place(str(number))) for number in range(places)]
    trials: list[asyncio.Task[None]] = []
    while (config := search.suggest(name := str(len(trials)))) != Searcher.FINISHED:
        if isinstance(config, dict):
            trials.append(asyncio.ensure_future(trial(name, by_id[config["cell"]])))
        await asyncio.sleep(0 if config else 0.005)
    await asyncio.gather(*trials, *workers)
    return Filling(places, spans)


def makespans(cells: list[Task], filling: Filling) -> tuple[float, float]:
    """Return how long the cells took, and how long they take without any overhead."""
    assert sorted(span.cell_id for span in filling.spans) == sorted(c.cell_id for c in cells)
    took = max(span.end for span in filling.spans) - min(span.begin for span in filling.spans)
    return took, ideal_makespan(
        {cell.cell_id: cell.seconds for cell in cells},
        {cell.cell_id: [cell.needs] for cell in cells if cell.needs},
        filling.places,
    )


@pytest.mark.parametrize("commit", [0.0, 0.25])
def test_a_thousand_cells_fill_64_places(commit: float) -> None:
    """Also where the commit of a method takes a seventh of it: it overlaps the next cell."""
    cells = sleeping_cells()
    assert len(cells) == 1000
    filling = run_at_once(run(cells, 64, commit))
    took, ideal = makespans(cells, filling)
    print(f"filled {filling.efficiency:.3f}, makespan / ideal {took / ideal:.3f}")
    assert filling.efficiency is not None
    assert filling.efficiency >= 0.9
    assert took / ideal <= 1.05


@pytest.mark.parametrize("places", [1, 2, 4, 8, 16, 64])
def test_the_published_cells_of_imagenet_take_hardly_longer_than_the_ideal(places: int) -> None:
    """In minutes of the paper, for a commit of 15 s each."""
    cells = published_cells()
    assert len(cells) == 30
    filling = run_at_once(run(cells, places, commit=0.25))
    took, ideal = makespans(cells, filling)
    print(f"{places} places: {took:.1f} min, ideal {ideal:.1f}")
    assert took / ideal <= 1.05
