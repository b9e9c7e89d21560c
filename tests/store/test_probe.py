"""What a probe of a store leaves: nothing, and nothing of probes that were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects import Objects
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.probe import LEFT_AFTER_SECONDS, broken_promise
from lotus_ray.store.results import Store


@pytest.fixture
def objects(place: str) -> Objects:
    return Store.open(place).objects


def probe(seconds_ago: float) -> str:
    return f"probe-{int(time.time() - seconds_ago)}-{uuid.uuid4().hex}/"


def test_a_probe_removes_old_ones_and_leaves_those_that_may_run(objects: Objects) -> None:
    """One of a version that told no time is old; what only looks like a probe is not ours."""
    old = [probe(LEFT_AFTER_SECONDS + 60), f"probe-{uuid.uuid4().hex}/"]
    kept = [probe(LEFT_AFTER_SECONDS - 60), probe(-60), "probe-mine/", f"rows/{old[0]}"]
    for folder in (*old, *kept):
        objects.create(f"{folder}once.json", b"x")
    assert broken_promise(objects) == ""
    assert objects.names("") == sorted(f"{folder}once.json" for folder in kept)


def test_a_folder_without_a_finished_file_is_left_over_too(tmp_path: Path) -> None:
    """The process was killed while it wrote its first file."""
    folder = tmp_path / probe(2 * LEFT_AFTER_SECONDS)
    folder.mkdir()
    (folder / ".once.json.abc").write_text("{")
    assert broken_promise(LocalObjects(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_probe_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjects(tmp_path)

    def refuse(name: str) -> bytes:
        raise StoreError("the server does not answer")

    monkeypatch.setattr(objects, "read", refuse)
    with pytest.raises(StoreError, match="does not answer"):
        broken_promise(objects)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_that_cannot_be_listed_hinder_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str) -> list[str]:
        raise StoreError("not allowed")

    objects = LocalObjects(tmp_path)
    monkeypatch.setattr(objects, "folders", refuse)
    assert broken_promise(objects) == ""


KILLED = """
import os, signal, sys
from pathlib import Path
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.probe import broken_promise

LocalObjects.read = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
broken_promise(LocalObjects(Path(sys.argv[1])))
"""


def test_what_a_killed_probe_leaves_goes_with_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert broken_promise(LocalObjects(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == [left]
    later = time.time() + LEFT_AFTER_SECONDS + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert broken_promise(LocalObjects(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []
