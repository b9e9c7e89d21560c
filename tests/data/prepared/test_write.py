from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared import check
from lotus_ray.data.prepared.index import offsets_of, read_index
from lotus_ray.data.prepared.manifest import FORMAT, INDEX, MANIFEST, Manifest, Shard, read_manifest
from lotus_ray.data.prepared.offsets import offsets_path
from lotus_ray.data.prepared.shard_task import ShardTask
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, SOURCES, TRAIN, Images, Source
from tests.toy import Sample, source

SAMPLES = [
    Sample("c", TRAIN, b"image c", "c.png", 0),
    Sample("a", TRAIN, b"image a", "a.png", 1),
    Sample("d", HELDOUT, b"image d", "d.png", 1),
    Sample("b", TRAIN, b"image b", "b.png", 1),
]


@pytest.fixture
def toy(tmp_path: Path) -> Manifest:
    return prepare(source(SAMPLES), tmp_path / "toy")


def test_a_full_shard_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 training images at 2 a shard are shards of 2 and 1; the held-out one has its own."""
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 2)
    made = prepare(source(SAMPLES), tmp_path / "toy")
    assert [(shard.split, shard.rows) for shard in made.shards] == [
        (TRAIN, 2),
        (TRAIN, 1),
        (HELDOUT, 1),
    ]
    assert check.read_labels(made)["sample_id"].to_pylist() == ["a", "b", "c", "d"]


def test_preparing_again_keeps_every_file(toy: Manifest) -> None:
    before = {path: path.stat().st_mtime_ns for path in toy.directory.iterdir()}
    assert prepare(source(SAMPLES), toy.directory) == toy
    assert {path: path.stat().st_mtime_ns for path in toy.directory.iterdir()} == before


@pytest.mark.parametrize("place", [0, 100, -1])
def test_preparing_again_notices_a_flipped_byte_anywhere(toy: Manifest, place: int) -> None:
    path = Path(toy.paths[1])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="changed since it was prepared: SHA-256") as caught:
        prepare(source(SAMPLES), toy.directory)
    assert caught.value.where == str(path)
    assert f"lotus-ray prepare toy {toy.directory}" in caught.value.next_command


def test_preparing_again_notices_a_missing_shard(toy: Manifest) -> None:
    Path(toy.paths[1]).unlink()
    with pytest.raises(DataError, match="cannot be read: No such file") as caught:
        prepare(source(SAMPLES), toy.directory)
    assert caught.value.where == toy.paths[1]


def test_the_digest_does_not_depend_on_the_place(toy: Manifest, tmp_path: Path) -> None:
    other = prepare(source(SAMPLES), tmp_path / "elsewhere" / "deep")
    assert other.digest == toy.digest


def test_the_digest_does_not_depend_on_how_parquet_is_written(
    toy: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 1)
    other = prepare(source(SAMPLES), tmp_path / "other")
    assert [s.sha256 for s in other.shards] != [s.sha256 for s in toy.shards]
    assert other.digest == toy.digest


@pytest.mark.parametrize(
    "other",
    [
        source(SAMPLES, ("cat", "dog", "cow")),
        source([*SAMPLES[:3], replace(SAMPLES[3], label=0)]),
        source([*SAMPLES[:3], replace(SAMPLES[3], image=b"image B")]),
        source([*SAMPLES[:3], replace(SAMPLES[3], sample_id="e")]),
        source([*SAMPLES[:3], replace(SAMPLES[3], split=HELDOUT)]),
    ],
    ids=["classes", "label", "image", "id", "split"],
)
def test_the_digest_depends_on_all_of_the_content(
    toy: Manifest, tmp_path: Path, other: Source
) -> None:
    assert prepare(other, tmp_path / "other").digest != toy.digest


class Failing:
    """Reads the toy images, fails at some of them, and remembers what it read."""

    def __init__(self, *failing: int) -> None:
        self.failing = failing
        self.read_at: list[int] = []

    def __call__(self, file: str, place: int, size: int) -> bytes:
        if place in self.failing:
            raise ConnectionError("the line is cut")
        self.read_at.append(place)
        return SAMPLES[place].image

    @property
    def source(self) -> Source:
        images = source(SAMPLES).open(None)
        return Source("toy", "", lambda root: replace(images, read=self))


def test_a_source_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an image cannot be read: the line is cut"):
        prepare(Failing(0, 1, 2, 3).source, tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []


def test_what_is_finished_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image a shard; the held-out one cannot be read at first. The other three are kept."""
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 1)
    first, second = Failing(2), Failing()
    with pytest.raises(DataError, match="an image cannot be read: the line is cut"):
        prepare(first.source, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
    assert sorted(first.read_at) == [0, 1, 3]
    told: list[tuple[int, int, int]] = []
    resumed = prepare(second.source, tmp_path / "toy", report=lambda *now: told.append(now))
    assert second.read_at == [2]
    assert told == [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4)]
    assert resumed.shards == prepare(source(SAMPLES), tmp_path / "whole").shards
    assert sorted(path.name for path in resumed.directory.iterdir()) == sorted(
        [MANIFEST, INDEX, *(shard.file for shard in resumed.shards)]
    )


def test_what_was_finished_of_other_images_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 1)
    with pytest.raises(DataError, match="an image cannot be read: the line is cut"):
        prepare(Failing(2).source, tmp_path / "toy")
    other = [replace(sample, label=1) for sample in SAMPLES[:3]]
    made = prepare(source(other), tmp_path / "toy")
    assert made.shards == prepare(source(other), tmp_path / "whole").shards
    assert len(list(made.directory.glob("*.parquet"))) == 3


def test_what_was_finished_in_another_layout_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 1)
    with monkeypatch.context() as older:
        older.setattr("lotus_ray.data.prepared.shard_task.FORMAT", FORMAT - 1)
        with pytest.raises(DataError, match="the line is cut"):
            prepare(Failing(2).source, tmp_path / "toy")
    again = Failing()
    prepare(again.source, tmp_path / "toy")
    assert sorted(again.read_at) == [0, 1, 2, 3]


def test_shards_may_be_written_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 1)

    def backwards(tasks: Sequence[ShardTask]) -> Iterator[Shard]:
        yield from (task.run() for task in reversed(tasks))

    made = prepare(source(SAMPLES), tmp_path / "a", run=backwards)
    assert made.shards == prepare(source(SAMPLES), tmp_path / "b").shards


def test_the_order_of_shards_is_random_and_does_not_depend_on_the_order_of_files(
    tmp_path: Path,
) -> None:
    many = [Sample(f"{n:03d}", TRAIN, b"%d" % n, "", n % 2) for n in range(100)]
    made = prepare(source(many), tmp_path / "a")
    assert made.shards == prepare(source(many[::-1]), tmp_path / "b").shards
    ids = pq.read_table(made.paths[0])["sample_id"].to_pylist()
    assert sorted(ids) == [f"{n:03d}" for n in range(100)]
    assert ids != sorted(ids)
    places = [int(i) for i in ids[:50]]
    assert 15 < sum(place < 50 for place in places) < 35  # half of either half


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds no manifest") as caught:
        prepare(source(SAMPLES), tmp_path)
    assert caught.value.where == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    assert prepare(source(SAMPLES), tmp_path / "toy").rows(TRAIN) == 3


def test_a_place_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        prepare(source(SAMPLES), tmp_path / "file" / "toy")


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="holds no manifest"):
        prepare(source(SAMPLES), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", refuse)
    with pytest.raises(DataError, match="cannot write: No space left on device") as caught:
        prepare(source(SAMPLES), tmp_path / "toy")
    assert caught.value.where.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_two_that_prepare_at_once_end_with_one_data_set(tmp_path: Path) -> None:
    """The second one waits for the first, and reads nothing."""
    inside, reads = threading.Event(), Failing()

    def open_slowly(root: Path | None) -> Images:
        inside.set()
        time.sleep(0.3)
        return reads.source.open(root)

    slow = Source("toy", "", open_slowly)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: prepare(slow, tmp_path / "toy"), range(2)))
    assert made[0] == made[1] == check.verify(read_manifest(tmp_path / "toy"))
    assert sorted(reads.read_at) == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_another_data_set_is_not_taken_for_this_one(toy: Manifest) -> None:
    with pytest.raises(DataError, match="the destination holds toy") as raised:
        prepare(SOURCES["digits"], toy.directory)
    assert raised.value.next_command == f"lotus-ray prepare digits {toy.directory}-digits"


@pytest.mark.parametrize(
    ("samples", "classes", "what"),
    [
        ([replace(SAMPLES[0], label=2)], ("cat", "dog"), "a label is outside the classes"),
        ([replace(SAMPLES[0], label=-1)], ("cat", "dog"), "a label is outside the classes"),
        ([SAMPLES[0], SAMPLES[0]], ("cat", "dog"), "two images have one id"),
        (SAMPLES, ("cat", "cat"), "two classes have one name"),
        ([], ("cat", "dog"), "there is no image"),
    ],
)
def test_images_that_make_no_data_set_are_refused(
    tmp_path: Path, samples: list[Sample], classes: tuple[str, ...], what: str
) -> None:
    with pytest.raises(DataError, match=what):
        prepare(source(samples, classes), tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(13, "no"), ValueError("no"), UnicodeDecodeError("u", b"", 0, 1, "no")]
)
def test_files_that_cannot_be_read_are_a_data_error(tmp_path: Path, error: Exception) -> None:
    def broken(root: Path | None) -> Images:
        raise error

    with pytest.raises(DataError, match=r"toy cannot be read: .*no"):
        prepare(Source("toy", "", broken), tmp_path / "toy")


def test_data_of_an_earlier_version_get_their_index(tmp_path: Path) -> None:
    """Run again on prepared data, which still have the offsets beside their shards."""
    made = prepare(source(SAMPLES), tmp_path / "toy")
    index = (made.directory / INDEX).read_bytes()
    for shard, part in zip(made.shards, read_index(made) or [], strict=True):
        np.save(offsets_path(made.directory / shard.file), offsets_of(part))
    (made.directory / INDEX).unlink()
    assert prepare(source(SAMPLES), tmp_path / "toy") == made
    assert (made.directory / INDEX).read_bytes() == index
