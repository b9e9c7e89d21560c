from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.data import shards
from lotus_ray.data.prepare import prepare
from lotus_ray.data.shards import Manifest
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.errors import DataError
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
    path = manifest.directory / shards.MANIFEST
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
    }


def test_the_manifest_says_what_is_on_the_disk(toy: Manifest) -> None:
    for shard, path in zip(toy.shards, toy.paths, strict=True):
        assert shard.bytes == Path(path).stat().st_size
        assert shard.rows == pq.read_metadata(path).num_rows
    assert shards.read_manifest(toy.directory) == toy
    assert shards.verify(toy) == toy


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_byte_in_a_shard_is_found_and_named(toy: Manifest, place: int) -> None:
    path = Path(toy.paths[1])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="changed since it was prepared") as caught:
        shards.verify(toy)
    assert caught.value.where == str(path)
    assert f"lotus-ray prepare toy {toy.directory}" in caught.value.next_command


def test_a_missing_shard_is_found_and_named(toy: Manifest) -> None:
    Path(toy.paths[1]).unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        shards.verify(toy)
    assert caught.value.where == toy.paths[1]


def test_no_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is missing") as caught:
        shards.read_manifest(tmp_path)
    assert caught.value.next_command == f"lotus-ray prepare SOURCE {tmp_path}"


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{", "{}", '{"format": 2, "dataset": "x", "classes": null, "shards": []}'],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / shards.MANIFEST).write_text(content)
    with pytest.raises(DataError, match="manifest cannot be read") as caught:
        shards.read_manifest(tmp_path)
    assert caught.value.where == str(tmp_path / shards.MANIFEST)


def test_a_manifest_of_another_format_is_refused(toy: Manifest) -> None:
    with pytest.raises(DataError, match="format 1, expected 3"):
        shards.read_manifest(edit(toy, format=1))


def test_a_manifest_with_an_unknown_field_is_refused(toy: Manifest) -> None:
    with pytest.raises(DataError, match="compression"):
        shards.read_manifest(edit(toy, shards=[{"compression": "zip"}]))


def test_labels_are_sorted_by_id_and_know_their_split(toy: Manifest) -> None:
    assert shards.read_labels(toy).to_pylist() == [
        {"sample_id": "a", "label": 1, "split": TRAIN},
        {"sample_id": "b", "label": 1, "split": TRAIN},
        {"sample_id": "c", "label": 0, "split": TRAIN},
        {"sample_id": "d", "label": 1, "split": HELDOUT},
    ]


def rewrite(path: str, **columns: list[object]) -> None:
    """Put other values into columns of a shard."""
    table = pq.read_table(path)
    for name, values in columns.items():
        column = pa.array(values, table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, path)


def test_an_id_that_occurs_twice_is_refused_even_across_splits(toy: Manifest) -> None:
    rewrite(toy.paths[1], sample_id=["c"])
    with pytest.raises(DataError, match="1 sample ids occur more than once: c"):
        shards.read_labels(toy)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_refused(toy: Manifest, label: int) -> None:
    rewrite(toy.paths[1], label=[label])
    with pytest.raises(DataError, match=f"label {label} of d is outside 0 … 1"):
        shards.read_labels(toy)


def test_a_cut_shard_is_refused_and_named(toy: Manifest) -> None:
    path = Path(toy.paths[0])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read") as caught:
        shards.read_labels(toy)
    assert caught.value.where == str(path)


def test_a_shard_without_labels_is_refused_and_named(toy: Manifest) -> None:
    pq.write_table(pa.table({"sample_id": ["a"]}), toy.paths[0])
    with pytest.raises(DataError, match="label") as caught:
        shards.read_labels(toy)
    assert caught.value.where == toy.paths[0]


def test_a_manifest_that_lacks_a_key_says_which(toy: Manifest) -> None:
    path = toy.directory / shards.MANIFEST
    content = json.loads(path.read_text())
    del content["columns"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="cannot be read: 'columns' is missing"):
        shards.read_manifest(toy.directory)
