"""How long a gold standard waits for its original. No Ray: the dispatcher's answers are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from lotus_ray.cluster import worker as module
from lotus_ray.cluster.worker import RESTART_SECONDS, _Line
from lotus_ray.trial.original import OriginalPending

STEP = 30.0  # seconds between two looks, on the test's clock


class Clock:
    """A clock on which only sleeping takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += STEP


def wait(
    monkeypatch: pytest.MonkeyPatch, folder: Path, runs: Iterator[bool], settled: Iterator[bool]
) -> float:
    """Wait for an original; return after how many seconds the wait ended."""
    clock, line = Clock(), _Line("1", workers=1)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("lotus_ray.cluster.worker.ray.get", lambda answer: answer)
    line._dispatcher = SimpleNamespace(runs=SimpleNamespace(remote=lambda cell: next(runs)))
    work_order: Any = SimpleNamespace(
        group=SimpleNamespace(original=SimpleNamespace(cell_id="original")),
        store=str(folder),
        is_settled=lambda cell, store: next(settled),
    )
    line.wait_for_original(work_order)
    return clock.now


def test_an_original_whose_workers_start_again_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It runs, its workers die, nobody runs it for two looks, it runs again, and is committed."""
    runs = iter([True, False, False, True, True])
    settled = iter([False] * 5 + [True])
    assert wait(monkeypatch, tmp_path, runs, settled) == 5 * STEP


def test_an_original_that_nobody_runs_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never() -> Iterator[bool]:
        while True:
            yield False

    looks = int(RESTART_SECONDS / STEP)
    runs = iter([True] + [False] * (looks + 1))
    with pytest.raises(OriginalPending):
        wait(monkeypatch, tmp_path, runs, never())
    assert next(runs, None) is None  # it gave up at the last look
