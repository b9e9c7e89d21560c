"""CacheSpace for decoded images: budgets, and folders of dead processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.cache_space import CacheSpace, exclusive_lock


@pytest.fixture(autouse=True)
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /dev/shm, so that tests see nobody else's."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr("lotus_ray.data.pixels.cache_space.IN_MEMORY", folder)
    return folder


def cache_space(tmp_path: Path, memory: int = 100, disk: int | None = 1000) -> CacheSpace:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return CacheSpace(memory, disk, str(scratch))


def test_what_is_left_is_the_budget_less_what_lies_there(tmp_path: Path) -> None:
    made = cache_space(tmp_path)
    with made.locked():
        assert (made.memory_left(), made.disk_left()) == (100, 1000)
        (made.memory / "key").mkdir()
        (made.memory / "key" / "a").write_bytes(bytes(30))
        (made.disk / "b").write_bytes(bytes(1200))
        assert (made.memory_left(), made.disk_left()) == (70, 0)


def test_without_a_budget_the_disk_gives_what_it_has(tmp_path: Path) -> None:
    made = cache_space(tmp_path, disk=None)
    with made.locked():
        assert made.disk_left() > 1 << 20


def test_no_more_than_half_of_the_free_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotus_ray.data.pixels.cache_space.available_memory", lambda: 60)
    with (made := cache_space(tmp_path)).locked():
        assert made.memory_left() == 30


def test_what_rays_object_store_may_still_take_is_left_to_it(
    tmp_path: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 GiB are free, a store of 2 GiB has taken none of them, and 1 GiB is spare."""
    gib = 1 << 30
    (tmp_path / "proc" / "7" / "fd").mkdir(parents=True)
    store = in_memory / "plasma1"
    with store.open("wb") as file:
        file.truncate(2 * gib)
    (tmp_path / "proc" / "7" / "fd" / "5").symlink_to(store)
    monkeypatch.setattr("lotus_ray.base.free_memory.PROC", tmp_path / "proc")
    monkeypatch.setattr("lotus_ray.data.pixels.cache_space._free_bytes", lambda folder: 3 * gib)
    with (made := cache_space(tmp_path, memory=8 * gib)).locked():
        assert made.memory_left() == 0
        store.unlink()
        assert made.memory_left() == 2 * gib


def test_cleared_cache_space_leaves_nothing(tmp_path: Path, in_memory: Path) -> None:
    made = cache_space(tmp_path)
    with made.locked():
        (made.disk / "b").write_bytes(b"b")
    made.clear()
    assert [*in_memory.iterdir(), *(tmp_path / "scratch").iterdir()] == []


HOLD = """
import sys
from pathlib import Path
from lotus_ray.data.pixels import cache_space
cache_space.IN_MEMORY = Path(sys.argv[1])
made = cache_space.CacheSpace(100, 100, sys.argv[2], session="0123456789ab")
with made.locked():
    (made.memory / "pixels").write_bytes(b"p")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_the_folders_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not(
    tmp_path: Path, in_memory: Path
) -> None:
    mine = cache_space(tmp_path)
    other = CacheSpace(100, 100, mine.scratch, session="0123456789ab")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(in_memory), mine.scratch],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"ready\n"
    with mine.locked():
        assert (other.memory / "pixels").exists()
        assert other.disk.exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with mine.locked():
        assert not other.memory.exists()
        assert not other.disk.exists()
        assert mine.memory.exists()
    holder.stdin.close()
    holder.stdout.close()


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path, in_memory: Path) -> None:
    """Another program's lock beside its folder, and a link in the place of a lock."""
    mine = cache_space(tmp_path)
    scratch = Path(mine.scratch)
    (scratch / "lotus-ray-results").mkdir()
    (scratch / "lotus-ray-results.lock").touch()
    linked = tmp_path / "linked"
    linked.write_text("mine")
    (in_memory / "lotus-ray-ba9876543210-memory.lock").symlink_to(linked)
    (in_memory / "lotus-ray-ba9876543210-memory").mkdir()
    with mine.locked():
        assert (scratch / "lotus-ray-results").is_dir()
        assert (in_memory / "lotus-ray-ba9876543210-memory").is_dir()
        assert linked.read_text() == "mine"


def test_only_this_user_reads_what_is_decoded(tmp_path: Path) -> None:
    made = cache_space(tmp_path)
    with made.locked():
        assert {folder.stat().st_mode & 0o777 for folder in (made.memory, made.disk)} == {0o700}


def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    made = cache_space(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    made.memory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is no folder of this user"), made.locked():
        pass


def test_a_scratch_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    made = CacheSpace(100, 100, str(tmp_path / "none"))
    with pytest.raises(DataError, match="decoded images cannot be stored") as caught, made.locked():
        pass
    assert "none" in caught.value.where
    assert "resources.scratch" in caught.value.next_command


def test_two_that_share_a_session_hold_it_together(tmp_path: Path) -> None:
    """The end of the first leaves the folder to the second."""
    made = cache_space(tmp_path)
    with made.locked():
        with made.locked():
            (made.memory / "a").write_bytes(b"a")
        with cache_space(tmp_path).locked():
            assert (made.memory / "a").exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second process waits until the first has left the block."""
    code = (
        "import sys; from pathlib import Path\n"
        "from lotus_ray.data.pixels.cache_space import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1])): print('in', flush=True)"
    )
    with exclusive_lock(tmp_path):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=2)
    assert other.communicate(timeout=30)[0] == b"in\n"
