"""Decoded images in files of a node: each once, within its budgets, whole or not at all."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.decode_task import DecodeTask, announcing, decode_here
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import TRAIN
from tests.toy import PLAIN, Sample, png, read_pixels, source, table

IMAGE = PLAIN.image_bytes  # 12


class Counting:
    """Decodes here, and counts."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, tasks: Sequence[DecodeTask]) -> Iterable[int]:
        self.ids += [sample_id for task in tasks for sample_id in task.row_group.sample_ids]
        return decode_here(tasks)


@pytest.fixture(autouse=True)
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr("lotus_ray.data.pixels.cache_space.IN_MEMORY", folder)
    return folder


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Twelve images s000 … s011 in row groups of three."""
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 3)
    noise = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 3), dtype=np.uint8)
    samples = [Sample(f"s{n:03d}", TRAIN, png(image), "", 0) for n, image in enumerate(noise)]
    return prepare(source(samples, ("a",)), tmp_path / "data")


@pytest.fixture
def cache_space(tmp_path: Path) -> Iterator[CacheSpace]:
    made = CacheSpace(10_000, 10_000, str(tmp_path))
    with made.locked():
        yield made


def row_groups(manifest: Manifest, roles: Roles) -> list[RowGroupImages]:
    return wanted_row_groups([manifest.directory], roles)


def ensure(
    manifest: Manifest,
    cache_space: CacheSpace,
    roles: Roles,
    max_bad: int = 0,
    window: int | None = None,
) -> tuple[DecodedFiles, list[str]]:
    """Return the files, and the ids of what was decoded for them."""
    files, counting = DecodedFiles(cache_space, PLAIN), Counting()
    files.ensure(row_groups(manifest, roles), roles, counting, max_bad, window)
    assert files.decoded == len(counting.ids)
    return files, sorted(counting.ids)


def images(files: DecodedFiles, roles: Roles) -> np.ndarray:
    pixels = files.pixels(roles)
    assert pixels.complete
    return np.stack([pixels.image(row) for row in range(len(roles))])


def test_pixels_are_those_of_the_decoder(manifest: Manifest, cache_space: CacheSpace) -> None:
    roles = table("ffrrrruuuttt")
    files, _ = ensure(manifest, cache_space, roles)
    expected = read_pixels(row_groups(manifest, roles), roles, PLAIN).numpy()
    assert np.array_equal(images(files, roles), expected)


def test_each_image_is_decoded_once_for_all_tables_and_processes(
    manifest: Manifest, cache_space: CacheSpace
) -> None:
    """A second table shares four of its six images with the first one: two are decoded."""
    first, second = table("ffrrut"), table("ffrrut")
    second = replace(second, sample_ids=[f"s{n:03d}" for n in (2, 3, 4, 5, 6, 7)])
    assert ensure(manifest, cache_space, first)[1] == first.sample_ids
    files, decoded = ensure(manifest, cache_space, second)
    assert decoded == ["s006", "s007"]
    assert np.array_equal(
        images(files, second), read_pixels(row_groups(manifest, second), second, PLAIN).numpy()
    )
    assert ensure(manifest, cache_space, second)[1] == []


def test_another_transform_is_decoded_anew(manifest: Manifest, cache_space: CacheSpace) -> None:
    roles = table("frut")
    ensure(manifest, cache_space, roles)
    other = DecodedFiles(cache_space, Transform(1))
    other.ensure(row_groups(manifest, roles), roles, decode_here)
    assert other.decoded == 4
    assert images(other, roles).shape == (4, 3, 1, 1)


def test_workers_that_ask_at_once_decode_each_image_once(
    manifest: Manifest, cache_space: CacheSpace
) -> None:
    roles = table("ffrrrruuuttt")
    counts: list[int] = []

    def ask() -> None:
        files = DecodedFiles(cache_space, PLAIN)
        files.ensure(row_groups(manifest, roles), roles, decode_here)
        assert files.pixels(roles).complete
        counts.append(files.decoded)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 0, 12]


def test_memory_is_filled_first_and_the_disk_takes_the_rest(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Pieces of 3 images are 36 bytes: two of the four fit into 80 bytes of memory."""
    cache_space = CacheSpace(80, 10_000, str(tmp_path))
    with cache_space.locked():
        files, _ = ensure(manifest, cache_space, table("ffrrrruuuttt"))
        assert len(list(cache_space.memory.rglob("*.arrow"))) == 2
        assert len(list(cache_space.disk.rglob("*.arrow"))) == 2
        assert files.pixels(table("ffrrrruuuttt")).complete


def test_a_small_dev_shm_stays_empty_the_disk_serves_and_a_message_says_so(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's /dev/shm has 64 MB: less than what others need there."""
    free = {tmp_path / "shm": 64 << 20, tmp_path: 64 << 30}
    monkeypatch.setattr("lotus_ray.data.pixels.cache_space._free_bytes", free.__getitem__)
    cache_space, said = CacheSpace(scratch=str(tmp_path)), list[str]()
    roles = table("ffrrrruuuttt")
    with cache_space.locked():
        files = DecodedFiles(cache_space, PLAIN)
        files.ensure(row_groups(manifest, roles), roles, announcing(decode_here, said.append))
        assert files.pixels(roles).complete
        assert not list(cache_space.memory.rglob("*.arrow"))
        assert len(list(cache_space.disk.rglob("*.arrow"))) == 4
        cache_space.clear()
    (line,) = said
    assert line.startswith(
        f"decoding 12 images; 12 of them are kept on the disk, in {tmp_path}: decoded_memory_gb, "
    )


def test_space_is_set_aside_before_an_image_is_decoded(
    manifest: Manifest, cache_space: CacheSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 36 bytes does not fit, and no image is read for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(RowGroupImages, "read", lambda _: pytest.fail("an image was read"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))
        with pytest.raises(DataError, match="decoded images cannot be written"):
            ensure(manifest, cache_space, table("ffrrrruuuttt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_images_are_decoded_where_the_system_sets_no_space_aside(
    manifest: Manifest, cache_space: CacheSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.delattr("os.posix_fallocate", raising=False)
    _, decoded = ensure(manifest, cache_space, table("ffrrrruuuttt"))
    assert len(decoded) == 12


def test_without_cache_space_nothing_is_decoded_and_the_error_says_how_much_is_needed(
    manifest: Manifest, tmp_path: Path
) -> None:
    cache_space = CacheSpace(80, 40, str(tmp_path))
    with cache_space.locked():
        with pytest.raises(DataError) as caught:
            ensure(manifest, cache_space, table("ffrrrruuuttt"))
        assert caught.value.what == (
            "decoded images need 144 bytes; there is room for 80 in memory, and for 40 on the disk"
        )
        assert "shuffle_window" in caught.value.next_command
        assert list(cache_space.memory.rglob("*.arrow")) == []


def test_what_may_stream_is_left_out_last(manifest: Manifest, tmp_path: Path) -> None:
    """8 images are not retained, 96 bytes: they fit beside 3 windows of 1, and not all others."""
    roles = table("ffrrrruuuttt")
    cache_space = CacheSpace(136, 0, str(tmp_path))
    with cache_space.locked():
        files, _ = ensure(manifest, cache_space, roles, window=1)
        here = files.pixels(roles).block >= 0
        retained = np.zeros(12, bool)
        retained[roles.indices("retain")] = True
        assert here[~retained].all()
        assert 0 < (~here).sum() <= 4
    small = CacheSpace(80, 0, str(tmp_path))
    with small.locked(), pytest.raises(DataError, match="need 144 bytes") as caught:
        ensure(manifest, small, roles, window=1)
    assert "room for 44 in memory, beside 3 windows of 1 images" in caught.value.what
    with small.locked(), pytest.raises(DataError, match="room for 0 in memory, beside 3 windows"):
        ensure(manifest, small, roles, window=3)


def test_nodes_that_cannot_keep_all_keep_their_own_part_first(
    manifest: Manifest, tmp_path: Path
) -> None:
    """4 of 12 images cannot stream. 3 windows of 1 leave 48 bytes for 4 of the 8 others."""
    roles, held = table("ffrrrrrrrrut"), []
    own = np.arange(12) % 2 == 0
    for number, part in enumerate((own, ~own)):
        (tmp_path / str(number)).mkdir()
        cache_space = CacheSpace(48 + 36 + 48, 0, str(tmp_path / str(number)))
        with cache_space.locked():
            files = DecodedFiles(cache_space, PLAIN)
            files.ensure(row_groups(manifest, roles), roles, decode_here, window=1, own=part)
            held.append(files.pixels(roles).held)
    assert [each.sum() for each in held] == [8, 8]
    assert np.flatnonzero(held[0] & held[1]).tolist() == [0, 1, 10, 11]
    assert (held[0] | held[1]).all()


@pytest.fixture
def torn(tmp_path: Path) -> Manifest:
    """Six images, of which s001 and s004 are none."""
    content = [png(np.full((2, 2, 3), n, np.uint8)) for n in range(6)]
    content[1], content[4] = b"torn", b""
    samples = [Sample(f"s{n:03d}", TRAIN, one, "", 0) for n, one in enumerate(content)]
    return prepare(source(samples, ("a",)), tmp_path / "torn")


def test_bad_images_are_counted_and_listed_up_to_a_number(
    torn: Manifest, cache_space: CacheSpace
) -> None:
    roles = table("frrurt")
    files, _ = ensure(torn, cache_space, roles, max_bad=2)
    assert sorted(files.bad_among(roles)) == ["s001", "s004"]
    assert "cannot be decoded" in files.bad["s001"]
    assert "row " in files.bad["s004"]
    assert images(files, roles)[[0, 2, 3, 5], 0, 0, 0].tolist() == [0, 2, 3, 5]
    with pytest.raises(DataError, match="2 images cannot be decoded; 1 are allowed"):
        ensure(torn, cache_space, roles, max_bad=1)


def test_none_is_allowed_by_default(torn: Manifest, cache_space: CacheSpace) -> None:
    with pytest.raises(DataError, match="an image cannot be decoded"):
        ensure(torn, cache_space, table("frrurt"))
    assert list(cache_space.memory.rglob("*.arrow")) == []


def test_an_image_to_forget_is_never_left_out(torn: Manifest, cache_space: CacheSpace) -> None:
    with pytest.raises(DataError, match="a forget image is among them") as caught:
        ensure(torn, cache_space, table("rfrurt"), max_bad=100)
    assert "s001" in caught.value.what


def test_a_full_disk_leaves_no_part_of_a_file(
    manifest: Manifest, cache_space: CacheSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses files above 200 bytes; with room again the same call succeeds."""
    roles = table("ffrrrruuuttt")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        with pytest.raises(DataError, match="decoded images cannot be written") as caught:
            ensure(manifest, cache_space, roles)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "36 bytes are needed" in caught.value.what
    assert [p for p in cache_space.memory.rglob("*") if p.is_file() and p.stat().st_size] == []
    assert ensure(manifest, cache_space, roles)[0].pixels(roles).complete
