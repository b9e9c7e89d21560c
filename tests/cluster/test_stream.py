"""Images that stream: by tasks on free CPUs, else by the worker, in one order. No Ray."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import DataError
from lotus_ray.cluster import stream
from lotus_ray.cluster.decode import Columns
from lotus_ray.data.pixels.lookup import stream_here
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import TRAIN
from tests.toy import PLAIN, Sample, png, source, table

IMAGES = 12


@pytest.fixture(scope="module")
def row_groups(tmp_path_factory: pytest.TempPathFactory) -> list[RowGroupImages]:
    """Twelve images in row groups of five. Image n is all of level n."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 5)
        content = [png(np.full((2, 2, 3), n, np.uint8)) for n in range(IMAGES)]
        samples = [Sample(f"s{n:03d}", TRAIN, one, "", 0) for n, one in enumerate(content)]
        data = prepare(source(samples, ("a",)), tmp_path_factory.mktemp("data") / "data")
    roles = replace(table("ffrrrruuuttt"), sample_ids=[f"s{n:03d}" for n in range(IMAGES)])
    groups = wanted_row_groups([data.directory], roles)
    assert [len(each) for each in groups] == [5, 5, 2]
    return groups


def order(row_groups: list[RowGroupImages]) -> list[int]:
    """Return the rows in the order of storage, which is not that of the ids."""
    rows: list[int] = np.concatenate([each.rows for each in row_groups]).tolist()
    assert rows != sorted(rows)
    return rows


class Tasks:
    """Stands in for Ray Data: brings batches of three images, and then fails or never comes."""

    def __init__(self, batches: int, end: Exception | None = None) -> None:
        self.batches, self.end, self.at_once, self.taken = batches, end, 0, 0
        self.closed, self.hangs = threading.Event(), threading.Event()

    def __call__(
        self, row_groups: Sequence[RowGroupImages], transform: Any, at_once: int, ahead: int
    ) -> Iterator[Columns]:
        self.at_once = at_once
        pairs = list(stream_here(row_groups, transform))
        rows, pixels = (np.concatenate(each) for each in zip(*pairs, strict=True))
        try:
            for start in range(0, 3 * self.batches, 3):
                self.taken += 1
                part = slice(start, start + 3)
                yield {"row": rows[part], "pixels": pixels[part]}
            if self.end is not None:
                raise self.end
            if 3 * self.batches < len(rows):
                self.hangs.wait(60)  # as a task for which no CPU is free
        finally:
            self.closed.set()


def streamed(
    row_groups: list[RowGroupImages], monkeypatch: pytest.MonkeyPatch, tasks: Tasks, free: int
) -> list[int]:
    """Return the levels of the images in the order in which they come; rows must match them."""
    monkeypatch.setattr(stream, "_batches", tasks)
    monkeypatch.setattr(stream, "free_cpus", lambda: free)
    levels: list[int] = []
    for rows, pixels in stream.stream_pixels(row_groups, PLAIN, 1, workers=2, ahead_bytes=1):
        assert rows.tolist() == pixels[:, 0, 0, 0].tolist()
        levels += rows.tolist()
    return levels


@pytest.mark.parametrize(("free", "at_once"), [(1, 1), (4, 2), (64, 3)])
def test_workers_share_the_free_cpus(
    free: int, at_once: int, row_groups: list[RowGroupImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = Tasks(4)
    assert streamed(row_groups, monkeypatch, tasks, free) == order(row_groups)
    assert tasks.at_once == at_once
    assert tasks.closed.wait(20)


def test_a_worker_decodes_itself_where_no_cpu_is_free(
    row_groups: list[RowGroupImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = Tasks(4)
    assert streamed(row_groups, monkeypatch, tasks, 0) == order(row_groups)
    assert not tasks.taken


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
@pytest.mark.parametrize("end", [None, DataError("this node sees no such file")])
def test_what_tasks_do_not_bring_is_decoded_by_the_worker_in_the_same_order(
    end: Exception | None,
    batches: int,
    row_groups: list[RowGroupImages],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPUs are taken meanwhile, or a task fails. What Ray Data holds is let go."""
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.2)
    tasks = Tasks(batches, end)
    assert streamed(row_groups, monkeypatch, tasks, 1) == order(row_groups)
    tasks.hangs.set()
    assert tasks.closed.wait(20)


def test_an_image_that_nobody_can_decode_is_an_error(
    row_groups: list[RowGroupImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = [replace(each, uri=str(Path(each.uri).with_name("none"))) for each in row_groups]
    tasks = Tasks(0)
    with pytest.raises(DataError, match="none"):
        streamed(torn, monkeypatch, tasks, 1)


def test_nothing_is_taken_before_it_is_wanted(
    row_groups: list[RowGroupImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds one batch, and what Ray Data keeps. A stream that is not read on ends."""
    tasks = Tasks(4)
    monkeypatch.setattr(stream, "_batches", tasks)
    monkeypatch.setattr(stream, "free_cpus", lambda: 1)
    images = stream.stream_pixels(row_groups, PLAIN, 1, workers=1, ahead_bytes=1)
    next(iter(images))
    assert tasks.taken == 1
    images.close()  # type: ignore[attr-defined] # it is a generator
    assert tasks.closed.wait(20)
    assert tasks.taken == 1
