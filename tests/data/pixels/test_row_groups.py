"""Which images are read, and where their pixels go."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import Tensor

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.row_groups import RowGroupImages, check_bytes
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN
from tests.toy import PLAIN, Sample, png, read_pixels, rewrite, source, table


def pixels(manifest: Manifest, roles: Roles) -> Tensor:
    return read_pixels(wanted_row_groups([manifest.directory], roles), roles, PLAIN)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3), dtype=np.uint8)


@pytest.fixture
def manifest(tmp_path: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Five images s004 … s000, in this order, in three shards."""
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 2)

    def samples() -> list[Sample]:
        made = []
        for row in (4, 3, 2, 1, 0):
            split = HELDOUT if row > 2 else TRAIN
            made.append(Sample(f"s{row:03d}", split, png(noise[row]), f"{row}.png", row % 3))
        return made

    return prepare(source(samples(), ("a", "b", "c")), tmp_path / "d")


def test_pixels_are_read_to_the_row_of_their_id(manifest: Manifest, noise: np.ndarray) -> None:
    found = pixels(manifest, table("frrut"))
    assert np.array_equal(found.numpy(), noise.transpose(0, 3, 1, 2))


def test_samples_without_a_role_are_not_decoded(manifest: Manifest, noise: np.ndarray) -> None:
    roles = replace(table("fr"), sample_ids=["s001", "s004"])
    row_groups = wanted_row_groups([manifest.directory], roles)
    assert sorted(i for row_group in row_groups for i in row_group.sample_ids) == ["s001", "s004"]
    found = pixels(manifest, roles)
    assert np.array_equal(found.numpy(), noise[[1, 4]].transpose(0, 3, 1, 2))


def test_row_groups_without_a_wanted_sample_are_not_read(manifest: Manifest) -> None:
    for uri in manifest.paths:
        Path(uri).chmod(0o600)
    roles = table("f", prefix="x")
    assert wanted_row_groups([manifest.directory], roles) == []


def test_every_row_group_of_a_shard_has_its_own_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven images in groups of three: rows 0-2, 0-2 and 0 of groups 0, 1 and 2."""
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 3)
    samples = [Sample(f"s{n:03d}", TRAIN, png(np.full((2, 2, 3), n)), "", 0) for n in range(7)]
    made = prepare(source(samples, ("a",)), tmp_path / "seven")
    roles = table("frrrrrr")
    row_groups = wanted_row_groups([made.directory], roles)
    assert [(p.group, p.indices.tolist()) for p in row_groups] == [
        (0, [0, 1, 2]),
        (1, [0, 1, 2]),
        (2, [0]),
    ]
    assert pixels(made, roles)[:, 0, 0, 0].tolist() == list(range(7))


@pytest.mark.parametrize("content", [b"torn", b"", b"plain text, no image"])
def test_a_corrupt_image_is_named_by_id_file_and_row(tmp_path: Path, content: bytes) -> None:
    samples = [Sample(f"s{n:03d}", TRAIN, content, "", 0) for n in range(1)]
    made = prepare(source(samples, ("a",)), tmp_path / "one")
    with pytest.raises(DataError, match="an image cannot be decoded") as caught:
        pixels(made, table("f"))
    assert caught.value.where == f"sample s000 ({made.paths[0]}, row 0 of row group 0)"


def test_a_piece_knows_the_digests_of_its_images(manifest: Manifest, noise: np.ndarray) -> None:
    """In the order of places, whatever the rows of the table: s001 and s004 are wanted."""
    roles = replace(table("fr"), sample_ids=["s001", "s004"])
    found = {
        sample_id: digest
        for row_group in wanted_row_groups([manifest.directory], roles)
        for sample_id, digest in zip(row_group.sample_ids, row_group.digests or [], strict=True)
    }
    assert found == {f"s{n:03d}": hashlib.sha256(png(noise[n])).digest() for n in (1, 4)}


def test_digests_follow_the_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 3)
    samples = [Sample(f"s{n:03d}", TRAIN, b"%d" % n, "", 0) for n in range(7)]
    made = prepare(source(samples, ("a",)), tmp_path / "seven")
    row_groups = wanted_row_groups([made.directory], table("frrrrrr"))
    assert len(row_groups) == 3
    for row_group in row_groups:
        expected = [hashlib.sha256(b"%d" % int(i[1:])).digest() for i in row_group.sample_ids]
        assert row_group.digests == expected


def test_an_image_that_changed_is_named_before_anything_is_decoded(manifest: Manifest) -> None:
    """Another whole image of the same size in the place of s002: it would decode."""
    other = png(np.zeros((2, 2, 3)))
    (uri,) = [u for u in manifest.paths if "s002" in str(pq.read_table(u)["sample_id"].to_pylist())]
    row = pq.read_table(uri)["sample_id"].to_pylist().index("s002")
    images = pq.read_table(uri)["image"].to_pylist()
    images[row]["bytes"] = other
    rewrite(uri, image=images)
    with pytest.raises(DataError, match="an image changed since it was prepared") as caught:
        pixels(manifest, table("frrut"))
    assert caught.value.where == f"sample s002 ({uri}, row {row} of row group 0)"
    assert caught.value.exit_code == 3


def test_bytes_are_compared_with_their_own_digest() -> None:
    good = [b"one", b"two"]
    digests = [hashlib.sha256(content).digest() for content in good]
    check_bytes(good, digests, ["a", "b"])
    for wrong in ([b"two", b"one"], [b"onE", b"two"], [None, b"two"]):
        with pytest.raises(DataError) as caught:
            check_bytes(wrong, digests, ["a", "b"])
        assert caught.value.where == "a"
    with pytest.raises(DataError) as caught:
        check_bytes([b"one", b""], digests, ["a", "b"])
    assert caught.value.where == "b"


def test_a_row_group_that_cannot_be_read_is_a_data_error(manifest: Manifest) -> None:
    """Its footer is whole, and what it points to is not there any more."""
    (row_group, *_) = wanted_row_groups([manifest.directory], table("frrut"))
    path = Path(row_group.uri)
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(1).dictionary_page_offset or 4
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(row_group.read())
    assert row_group.uri in caught.value.where


def test_a_piece_without_digests_is_not_checked(manifest: Manifest) -> None:
    (row_group, *_) = wanted_row_groups([manifest.directory], table("frrut"))
    wrong = [b"0" * 32] * len(row_group.rows)
    unchecked: RowGroupImages = replace(row_group, digests=None)
    assert sum(len(encoded) for encoded in unchecked.read()) == len(row_group.rows)
    with pytest.raises(DataError, match="changed"):
        list(replace(row_group, digests=wrong).read())
