"""A few images of a shard are read without the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.offsets import offsets_path, read_offsets
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
    (shard,) = manifest.paths
    offsets = read_offsets(Path(shard), len(CONTENT))
    assert offsets is not None
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


def remove(path: Path) -> None:
    path.unlink()


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def shorten(path: Path) -> None:
    np.save(path, np.zeros((3, 2), np.int64))  # its name ends in .npy


@pytest.mark.parametrize("damage", [remove, tear, shorten])
def test_without_spans_the_group_is_read(
    manifest: Manifest, damage: Callable[[Path], None]
) -> None:
    damage(offsets_path(Path(manifest.paths[0])))
    (row_group,) = row_groups(manifest, 4)
    assert row_group.offsets is None
    assert read([row_group]) == {"s004": CONTENT[4]}


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
