from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.manifest import (
    DIGEST_TYPE,
    MANIFEST,
    Manifest,
    content_digest,
    read_manifest,
)
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
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


def edit(manifest: Manifest, **changes: object) -> Path:
    """Change the manifest's file; return its folder."""
    path = manifest.directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return manifest.directory


def test_prepare_counts_the_images_of_each_split(toy: Manifest) -> None:
    assert (toy.rows(TRAIN), toy.rows(HELDOUT)) == (3, 1)
    assert toy.dataset == "toy"
    assert toy.classes == ("cat", "dog")


def test_a_shard_has_the_layout_of_hugging_face(toy: Manifest) -> None:
    table = pq.read_table(toy.paths[0])
    assert table.schema.field("image").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )
    assert table.to_pylist()[0] == {
        "sample_id": "c",
        "image": {"bytes": b"image c", "path": "c.png"},
        "label": 0,
        "sha256": hashlib.sha256(b"image c").digest(),
    }
    assert table.schema.field("sha256").type == pa.binary(32)


def test_the_manifest_says_what_is_on_the_disk(toy: Manifest) -> None:
    for shard, path in zip(toy.shards, toy.paths, strict=True):
        assert shard.bytes == Path(path).stat().st_size
        assert shard.rows == pq.read_metadata(path).num_rows
    assert read_manifest(toy.directory) == toy


def test_no_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is missing") as caught:
        read_manifest(tmp_path)
    assert caught.value.next_command == f"lotus-ray prepare SOURCE {tmp_path}"


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{", "{}", '{"format": 3, "dataset": "x", "classes": null, "shards": []}'],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(DataError, match="manifest cannot be read") as caught:
        read_manifest(tmp_path)
    assert caught.value.where == str(tmp_path / MANIFEST)


def test_a_manifest_of_another_format_is_refused(toy: Manifest) -> None:
    with pytest.raises(DataError, match="format 1, expected 4"):
        read_manifest(edit(toy, format=1))


def test_a_manifest_with_an_unknown_field_is_refused(toy: Manifest) -> None:
    with pytest.raises(DataError, match="compression"):
        read_manifest(edit(toy, shards=[{"compression": "zip"}]))


def test_a_manifest_that_lacks_a_key_says_which(toy: Manifest) -> None:
    path = toy.directory / MANIFEST
    content = json.loads(path.read_text())
    del content["columns"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="cannot be read: 'columns' is missing"):
        read_manifest(toy.directory)


def small(ids: list[str], labels: list[int], digests: list[bytes]) -> pa.Table:
    """Return the small columns of a shard."""
    return pa.table({"sample_id": ids, "label": labels, "sha256": pa.array(digests, DIGEST_TYPE)})


def test_the_content_of_a_shard_by_hand() -> None:
    """SHA-256 of 2 rows, lengths 1 and 2 ('é' is two bytes), labels 7 and 0, ids, digests."""
    numbers = b"".join(n.to_bytes(8, "little") for n in (2, 1, 2, 7, 0))
    expected = hashlib.sha256(numbers + "aé".encode() + b"\1" * 32 + b"\2" * 32).hexdigest()
    assert content_digest(small(["a", "é"], [7, 0], [b"\1" * 32, b"\2" * 32])) == expected


def test_the_content_does_not_depend_on_how_arrow_holds_it() -> None:
    whole = small(["a", "b", "c"], [1, 2, 3], [bytes([n]) * 32 for n in range(3)])
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    sliced = pa.concat_tables([whole, whole]).combine_chunks().slice(3)
    assert chunked["label"].num_chunks == 2
    for other in (chunked, sliced):
        assert content_digest(other) == content_digest(whole)


def test_the_content_knows_where_an_id_ends() -> None:
    digests = [b"\0" * 32] * 2
    contents = {
        content_digest(small(ids, [0, 0], digests))
        for ids in (["ab", "c"], ["a", "bc"], ["", "abc"])
    }
    assert len(contents) == 3


def test_the_content_can_be_computed_again_from_the_small_columns(toy: Manifest) -> None:
    for shard, path in zip(toy.shards, toy.paths, strict=True):
        table = pq.read_table(path, columns=["sample_id", "label", "sha256"])
        assert content_digest(table) == shard.content


def test_the_manifest_counts_the_images_of_each_class(toy: Manifest) -> None:
    """Training: c is a cat, a and b are dogs; held out: d is a dog."""
    content = json.loads((toy.directory / MANIFEST).read_text())
    assert content["counts"] == {TRAIN: [1, 2], HELDOUT: [0, 1]}
    assert read_manifest(toy.directory).counts == {TRAIN: (1, 2), HELDOUT: (0, 1)}
