"""Shards written by Ray tasks are those that one process writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import DataError
from lotus_ray.cluster.prepare import FEW, run_on_cluster
from lotus_ray.cluster.session import session
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES, Images, Source

pytestmark = pytest.mark.ray


@pytest.fixture
def one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One Ray for all that a test prepares."""
    monkeypatch.chdir(tmp_path)
    with session():
        monkeypatch.setattr("lotus_ray.cluster.prepare.session", contextlib.nullcontext)
        yield


@pytest.mark.usefixtures("one_session")
def test_many_shards_are_written_by_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a relative path, though tasks run in another folder; an error arrives as itself."""
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 200)
    told: list[int] = []
    made = prepare(
        SOURCES["digits"],
        Path("ray"),
        run=run_on_cluster,
        report=lambda done, *_: told.append(done),
    )
    assert told == list(range(1, len(made.shards) + 1))
    assert len(told) > FEW
    assert made.shards == prepare(SOURCES["digits"], Path("here")).shards

    def torn(file: str, place: int, size: int) -> bytes:
        if place == 1000:
            raise OSError(5, "Input/output error")
        return b"image"

    def broken(root: Path | None) -> Images:
        return replace(SOURCES["digits"].open(None), read=torn)

    with pytest.raises(DataError, match="an image cannot be read: Input/output error") as raised:
        prepare(Source("digits", "", broken), Path("torn"), run=run_on_cluster)
    assert type(raised.value) is DataError  # Ray's own error of a task is one of it too
    assert sorted(path.name for path in tmp_path.iterdir()) == [".prepare-torn", "here", "ray"]
