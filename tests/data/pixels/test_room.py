"""Room on a node: files that no process uses go when it is short, and those in use never."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lotus_ray.base.errors import ImagesDoNotFit
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.decode_task import decode_here
from lotus_ray.data.pixels.room import make_room
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import TRAIN
from tests.toy import PLAIN, Sample, png, source, table

FILE = 3 * PLAIN.image_bytes  # 36 bytes of pixels; a file on the disk is a little larger
HOLD = """
import sys, time
from pathlib import Path
from lotus_ray.data.pixels import cache_space
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.room import Use
cache_space.IN_MEMORY = Path(sys.argv[4])
use = Use(CacheSpace(0, None, sys.argv[1], sys.argv[2]), [Path(sys.argv[3])])
print("used", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr("lotus_ray.data.pixels.cache_space.IN_MEMORY", folder)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Twelve images in row groups of three, each of one grey: that of s007 is 140."""
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 3)
    greys = [png(np.full((2, 2, 3), 20 * n, np.uint8)) for n in range(12)]
    samples = [Sample(f"s{n:03d}", TRAIN, grey, "", 0) for n, grey in enumerate(greys)]
    return prepare(source(samples, ("a",)), tmp_path / "data")


@pytest.fixture
def small(manifest: Manifest, tmp_path: Path) -> Iterator[CacheSpace]:
    """A node with room on its disk for two files."""
    probe = CacheSpace(0, 1 << 20, str(tmp_path))
    with probe.locked():
        ensure(manifest, probe, drawn(manifest, 0))
        (path,) = files_in(probe)
        size = path.stat().st_size
        probe.clear()
    space = CacheSpace(0, 2 * size + FILE // 2, str(tmp_path))
    with space.locked():
        yield space


def drawn(manifest: Manifest, *numbers: int) -> Roles:
    """Return the images of some of the four row groups."""
    every = replace(table("fru" * 4), sample_ids=[f"s{n:03d}" for n in range(12)])
    groups = wanted_row_groups([manifest.directory], every)
    names = [name for number in numbers for name in groups[number].sample_ids]
    return replace(table("fru" * len(numbers)), sample_ids=names)


def only(roles: Roles, *rows: int) -> Roles:
    """Return some images of a table."""
    return roles.without({name for row, name in enumerate(roles.sample_ids) if row not in rows})


def ensure(manifest: Manifest, space: CacheSpace, roles: Roles) -> DecodedFiles:
    files = DecodedFiles(space, PLAIN)
    files.ensure(wanted_row_groups([manifest.directory], roles), roles, decode_here)
    return files


def right(files: DecodedFiles, roles: Roles) -> bool:
    """Return True if each image has its grey."""
    pixels = files.pixels(roles)
    return [int(pixels.image(row)[0, 0, 0]) // 20 for row in range(len(roles))] == [
        int(name[1:]) for name in roles.sample_ids
    ]


def files_in(space: CacheSpace) -> set[Path]:
    return {*space.memory.rglob("*.arrow"), *space.disk.rglob("*.arrow")}


def test_the_files_that_were_used_longest_ago_go_first(
    manifest: Manifest, small: CacheSpace
) -> None:
    """Groups 0 and 1 are decoded, and 0 is used again: then 1 goes for group 2."""
    for number, moment in ((0, 1000), (1, 2000)):
        ensure(manifest, small, drawn(manifest, number)).rest()
        for path in files_in(small):
            os.utime(path, (moment, min(moment, path.stat().st_mtime)))
    ensure(manifest, small, drawn(manifest, 0)).rest()
    third = ensure(manifest, small, drawn(manifest, 2))
    assert right(third, drawn(manifest, 2))
    third.rest()
    assert [ensure(manifest, small, drawn(manifest, n)).decoded for n in (0, 1)] == [0, 3]


def test_files_in_use_stay_and_the_error_says_what_is_needed(
    manifest: Manifest, small: CacheSpace
) -> None:
    """Two groups are in use. The third one fits as soon as one of them rests."""
    first, second = (ensure(manifest, small, drawn(manifest, number)) for number in (0, 1))
    before = files_in(small)
    with pytest.raises(ImagesDoNotFit, match=f"need {FILE} bytes"):
        ensure(manifest, small, drawn(manifest, 2))
    assert files_in(small) == before
    first.rest()
    assert right(ensure(manifest, small, drawn(manifest, 2)), drawn(manifest, 2))
    assert len(before & files_in(small)) == 1
    assert right(second, drawn(manifest, 1))
    assert right(first, drawn(manifest, 0))  # removed, and still mapped


def test_a_group_that_is_forgotten_uses_nothing(manifest: Manifest, small: CacheSpace) -> None:
    groups = [ensure(manifest, small, drawn(manifest, number)) for number in (0, 1)]
    groups.pop(0)
    assert ensure(manifest, small, drawn(manifest, 2)).decoded == 3
    assert len(list(small.memory.glob(".use-*"))) == 1


def test_files_that_a_group_shares_with_another_stay_for_it(
    manifest: Manifest, small: CacheSpace
) -> None:
    """Of groups 0 and 1, a new group needs 1, and group 2: 0 goes, and 1 is not decoded again."""
    ensure(manifest, small, drawn(manifest, 1)).rest()
    ensure(manifest, small, drawn(manifest, 0)).rest()
    both = drawn(manifest, 1, 2)
    files = ensure(manifest, small, both)
    assert files.decoded == 3
    assert right(files, both)


def test_a_file_of_which_a_part_is_needed_goes_after_one_that_nobody_needs(
    manifest: Manifest, small: CacheSpace
) -> None:
    """Of row group 0 one image is needed, of 1 none: 1 goes for row group 2.

    Then one image each of 0 and 2 is needed, and row group 3. One of them goes, and with it the
    image that is needed: 3 + 1 images are decoded.
    """
    for number in (0, 1):
        ensure(manifest, small, drawn(manifest, number)).rest()
    first = only(drawn(manifest, 0, 2), 0, 3, 4, 5)
    files = ensure(manifest, small, first)
    assert (files.decoded, right(files, first)) == (3, True)
    files.rest()
    second = only(drawn(manifest, 0, 2, 3), 0, 3, 6, 7, 8)
    files = ensure(manifest, small, second)
    assert (files.decoded, right(files, second)) == (4, True)


def test_nothing_goes_where_that_would_not_be_enough(manifest: Manifest, small: CacheSpace) -> None:
    """Unless the rest can stream: then it does go."""
    ensure(manifest, small, drawn(manifest, 0)).rest()
    (path,) = files_in(small)
    size = path.stat().st_size
    tight = replace(small, disk_bytes=size)
    assert make_room(tight, [2 * size], {}) == []
    assert path.exists()
    assert make_room(tight, [2 * size], {}, all_or_nothing=False) == [path]
    assert not path.exists()


def test_a_process_keeps_its_files_until_it_is_killed(
    manifest: Manifest, small: CacheSpace
) -> None:
    ensure(manifest, small, drawn(manifest, 0)).rest()
    (path,) = files_in(small)
    arguments = (small.scratch, small.session, str(path), str(small.memory.parent))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdout=subprocess.PIPE, env=environment
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"used\n"
        assert make_room(small, [1 << 30], {}, all_or_nothing=False) == []
    finally:
        other.kill()
        other.communicate()
    assert make_room(small, [1 << 30], {}, all_or_nothing=False) == [path]
    assert not list(small.memory.glob(".use-*"))


def test_a_process_that_cannot_say_what_it_uses_keeps_all(
    manifest: Manifest, small: CacheSpace
) -> None:
    """As where the memory was full."""
    ensure(manifest, small, drawn(manifest, 0)).rest()
    files = ensure(manifest, small, drawn(manifest, 1))
    (note,) = small.memory.glob(".use-*")
    note.write_text("")
    assert make_room(small, [1 << 30], {}, all_or_nothing=False) == []
    files.rest()
    assert len(make_room(small, [1 << 30], {}, all_or_nothing=False)) == 2
