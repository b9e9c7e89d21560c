"""A few images of a shard are read without the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.index import group_sizes, offsets_of, read_index
from lotus_ray.data.prepared.manifest import INDEX, Manifest
from lotus_ray.data.prepared.offsets import GAP, MOST, joined
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import TRAIN
from tests.toy import Sample, source, table

RANDOM = np.random.default_rng(0)
# Of all sizes, some alike, some above the size of a page of Parquet.
SIZES = [0, 3, 3, 40, 70_000, 1_500_000, 24, 25, 48, 0, 2_000_000, 5, 40, 900, 1]
CONTENT = [RANDOM.bytes(size) for size in SIZES]
CONTENT[12] = CONTENT[3]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Fifteen images in row groups of seven."""
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 7)
    samples = [Sample(f"s{n:03d}", TRAIN, image, "", 0) for n, image in enumerate(CONTENT)]
    return prepare(source(samples, ("a",)), tmp_path / "data")


def row_groups(manifest: Manifest, *rows: int) -> list[RowGroupImages]:
    roles = replace(table("f" * len(rows)), sample_ids=[f"s{row:03d}" for row in rows])
    return wanted_row_groups([manifest.directory], roles)


def read(found: list[RowGroupImages]) -> dict[str, bytes]:
    return {
        sample_id: image
        for row_group in found
        for encoded in row_group.read()
        for sample_id, image in zip(encoded.sample_ids, encoded.images, strict=True)
    }


def test_each_image_lies_where_its_span_says(manifest: Manifest) -> None:
    """Order of storage is the order of the rows, which the row groups of all images tell."""
    (shard,), (part,) = manifest.paths, read_index(manifest) or []
    offsets = offsets_of(part)
    assert group_sizes(part) == [7, 7, 1]
    whole = Path(shard).read_bytes()
    order = [
        int(sample_id[1:]) for p in row_groups(manifest, *range(15)) for sample_id in p.sample_ids
    ]
    assert [whole[offset : offset + size] for offset, size in offsets.tolist()] == [
        CONTENT[row] for row in order
    ]


def test_both_ways_read_the_same(manifest: Manifest) -> None:
    expected = {f"s{row:03d}": image for row, image in enumerate(CONTENT)}
    assert read(row_groups(manifest, *range(15))) == expected
    for row in range(15):
        assert read(row_groups(manifest, row)) == {f"s{row:03d}": CONTENT[row]}


def test_a_few_are_read_alone_and_many_by_the_group(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven images in a group three are few and four are not."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("the whole group is read")

    (whole, *_) = row_groups(manifest, *range(15))
    assert len(whole) == 7
    monkeypatch.setattr(RowGroupImages, "_read_group", refuse)
    assert len(read([whole.only(np.array([0, 2, 6]))])) == 3
    with pytest.raises(AssertionError):
        read([whole.only(np.array([0, 2, 5, 6]))])


def test_without_an_index_the_group_is_read(manifest: Manifest) -> None:
    """As in data sets of earlier versions."""
    (manifest.directory / INDEX).unlink()
    (row_group,) = row_groups(manifest, 4)
    assert row_group.offsets is None
    assert read([row_group]) == {"s004": CONTENT[4]}


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def drop_a_row(path: Path) -> None:
    with pa.ipc.open_file(path.read_bytes()) as file:
        table = file.read_all()
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table.slice(1))


@pytest.mark.parametrize("damage", [tear, drop_a_row])
def test_a_damaged_index_is_said(manifest: Manifest, damage: Callable[[Path], None]) -> None:
    damage(manifest.directory / INDEX)
    with pytest.raises(DataError, match="the index of the data set is damaged: ") as caught:
        row_groups(manifest, 4)
    assert str(manifest.directory) in caught.value.next_command


@pytest.mark.parametrize("seed", range(20))
def test_requests_hold_their_ranges(seed: int) -> None:
    """In order, each once; gaps within a request, and requests, are not too large."""
    random = np.random.default_rng(seed)
    gaps, sizes = random.integers(0, 300_000, 100), random.integers(1, 50_000, 100)
    steps = np.stack([gaps * random.integers(0, 2, 100), sizes], axis=1).tolist()
    ranges, position = [], 0
    for gap, size in steps:
        ranges.append((position + gap, size))
        position += gap + size
    requests = list(joined(ranges))
    assert 1 < len(requests) < 60
    assert [each for request in requests for each in request.ranges] == ranges
    for request in requests:
        first, last = request.ranges[0], request.ranges[-1]
        assert (request.offset, request.size) == (first[0], sum(last) - first[0])
        assert request.size <= max(MOST, first[1])
        ends = [sum(each) for each in request.ranges]
        gaps = [begin - end for end, (begin, _) in zip(ends, request.ranges[1:], strict=False)]
        assert all(0 <= gap <= GAP for gap in gaps)


def test_ranges_by_hand() -> None:
    """A gap of 256 KiB is read over, and one byte more is not; nor are ranges that go back."""
    gap = 256 << 10
    requests = list(joined([(10, 5), (15 + gap, 5), (21 + 2 * gap, 1), (3, 2)]))
    assert [(request.offset, request.size) for request in requests] == [
        (10, gap + 10),
        (21 + 2 * gap, 1),
        (3, 2),
    ]


def test_where_a_span_leads_elsewhere_the_group_is_read(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images at a time: the second two are looked for in vain."""
    monkeypatch.setattr("lotus_ray.data.pixels.row_groups.ROWS_AT_A_TIME", 2)
    (whole, *_) = row_groups(manifest, *range(15))
    row_group = whole.only(np.array([0, 3, 5]))
    assert row_group.offsets is not None
    row_group.offsets[2] += 1
    assert read([row_group]) == {name: CONTENT[int(name[1:])] for name in row_group.sample_ids}


def test_a_changed_image_is_noticed(manifest: Manifest) -> None:
    (row_group,) = row_groups(manifest, 5)
    assert row_group.offsets is not None
    path = Path(row_group.uri)
    content = bytearray(path.read_bytes())
    content[int(row_group.offsets[0, 0]) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="an image changed"):
        read([row_group])
