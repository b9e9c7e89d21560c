"""What is known to be wrong with a data set before anything runs, and what is not read for that."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared import check
from lotus_ray.data.prepared.manifest import MANIFEST, Manifest, Shard, read_manifest, read_small
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from tests.toy import Sample, reseal, rewrite, source

SAMPLES = [
    Sample("c", TRAIN, b"image c", "c.png", 0),
    Sample("a", TRAIN, b"image a", "a.png", 1),
    Sample("d", HELDOUT, b"image d", "d.png", 1),
    Sample("b", TRAIN, b"image b", "b.png", 1),
]


@pytest.fixture
def toy(tmp_path: Path) -> Manifest:
    return prepare(source(SAMPLES), tmp_path / "toy")


def flip(path: str, content: bytes) -> None:
    """Change one bit of the first place where a file holds some bytes."""
    path_ = Path(path)
    whole = bytearray(path_.read_bytes())
    whole[whole.index(content)] ^= 1
    path_.write_bytes(whole)


def test_what_was_prepared_passes(toy: Manifest) -> None:
    assert check.verify(read_manifest(toy.directory)) == toy


def test_labels_are_sorted_by_id_and_know_their_split(toy: Manifest) -> None:
    table = check.read_labels(toy)
    assert table.select(["sample_id", "label", "split"]).to_pylist() == [
        {"sample_id": "a", "label": 1, "split": TRAIN},
        {"sample_id": "b", "label": 1, "split": TRAIN},
        {"sample_id": "c", "label": 0, "split": TRAIN},
        {"sample_id": "d", "label": 1, "split": HELDOUT},
    ]
    assert len(set(table["sha256"].to_pylist())) == 4


def test_no_image_is_read(toy: Manifest) -> None:
    """A flipped byte of an image stays for its decoding; the whole check of `prepare` sees it."""
    flip(toy.paths[0], b"image a")
    assert check.verify(toy) == toy
    with pytest.raises(DataError, match="changed since it was prepared"):
        check.verify_bytes(toy)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose columns are read."""
    seen: list[str] = []
    read = read_small

    def watched(manifest: Manifest, shard: Shard, file: pq.ParquetFile) -> pa.Table:
        seen.append(shard.file)
        return read(manifest, shard, file)

    monkeypatch.setattr("lotus_ray.data.prepared.shard_checks.read_small", watched)
    return seen


def test_columns_are_read_once_a_process_until_a_file_changes(
    toy: Manifest, reads: list[str]
) -> None:
    first = check.read_labels(toy)
    assert check.read_labels(read_manifest(toy.directory)) is first
    assert sorted(reads) == sorted(shard.file for shard in toy.shards)
    path = Path(toy.paths[0])
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(DataError, match="cannot be read"):
        check.read_labels(toy)


def test_an_error_is_not_remembered(toy: Manifest) -> None:
    path = Path(toy.paths[0])
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be read"):
            check.read_labels(toy)
    path.write_bytes(good)
    assert len(check.read_labels(toy)) == 4


def test_a_missing_shard_is_found_and_named(toy: Manifest) -> None:
    check.verify(toy)
    Path(toy.paths[1]).unlink()
    with pytest.raises(DataError, match="cannot be read: No such file") as caught:
        check.verify(toy)
    assert caught.value.where == toy.paths[1]


@pytest.mark.parametrize("keep", [0, 3, 4, 12, 100, -100, -20, -8, -1])
def test_a_cut_shard_is_refused_and_named(toy: Manifest, keep: int) -> None:
    path = Path(toy.paths[0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="cannot be read") as caught:
        check.read_labels(toy)
    assert caught.value.where == str(path)


def test_a_shard_of_another_size_is_refused(toy: Manifest) -> None:
    """The same rows, written anew with more room between them."""
    path = Path(toy.paths[1])
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"padding": "x" * 1000}), path)
    with pytest.raises(DataError, match=r"changed since it was prepared: \d+ bytes") as caught:
        check.read_labels(toy)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("column", "value"), [("sample_id", "x"), ("label", 0), ("sha256", b"\7" * 32)]
)
def test_a_changed_value_in_a_small_column_is_found(
    toy: Manifest, column: str, value: object
) -> None:
    """The manifest knows the new size, and not the new content."""
    rewrite(toy.paths[1], **{column: [value]})
    sizes = [replace(s, bytes=Path(toy.uri(s)).stat().st_size) for s in toy.shards]
    with pytest.raises(DataError, match="ids, labels and digests of images") as caught:
        check.read_labels(replace(toy, shards=tuple(sizes)))
    assert caught.value.where == toy.paths[1]
    assert f"lotus-ray prepare toy {toy.directory}" in caught.value.next_command


def test_an_id_in_two_splits_is_refused(toy: Manifest) -> None:
    rewrite(toy.paths[1], sample_id=["c"])
    with pytest.raises(DataError, match=r"1 sample ids occur more than once: c \(.*\)") as caught:
        check.read_labels(reseal(toy))
    assert "heldout" in caught.value.what
    assert "train" in caught.value.what


def test_an_id_that_occurs_twice_in_one_split_is_refused(toy: Manifest) -> None:
    rewrite(toy.paths[0], sample_id=["a", "a", "a"])
    with pytest.raises(DataError, match=r"1 sample ids occur more than once: a \(train\)"):
        check.read_labels(reseal(toy))


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_refused(toy: Manifest, label: int) -> None:
    rewrite(toy.paths[1], label=[label])
    with pytest.raises(DataError, match=f"label {label} of d is outside 0 … 1") as caught:
        check.read_labels(reseal(toy))
    assert caught.value.where == f"{toy.paths[1]}, row 0, column label"


@pytest.mark.parametrize("column", ["sample_id", "label", "sha256"])
def test_a_null_is_refused(toy: Manifest, column: str) -> None:
    rewrite(toy.paths[1], **{column: [None]})
    with pytest.raises(DataError, match=f"column {column} has 1 nulls") as caught:
        check.read_labels(toy)
    assert caught.value.where == toy.paths[1]


def renamed(table: pa.Table, column: str) -> pa.Table:
    return table.rename_columns([n + "s" if n == column else n for n in table.column_names])


def retyped(table: pa.Table, column: str) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, column, pa.array([1.5] * len(table)))


@pytest.mark.parametrize("column", ["sample_id", "image", "label", "sha256"])
@pytest.mark.parametrize(
    ("change", "what"), [(renamed, "there is no column {0}"), (retyped, "column {0} is double")]
)
def test_a_wrong_schema_names_file_and_column(
    toy: Manifest, column: str, change: Callable[[pa.Table, str], pa.Table], what: str
) -> None:
    pq.write_table(change(pq.read_table(toy.paths[0]), column), toy.paths[0])
    with pytest.raises(DataError, match=what.format(column)) as caught:
        check.read_labels(toy)
    assert caught.value.where == toy.paths[0]
    if change is renamed:
        assert column + "s" in caught.value.nearest


def test_images_that_are_no_bytes_are_refused(toy: Manifest) -> None:
    rewrite(toy.paths[0], pa.struct([("bytes", pa.string())]), image=[{"bytes": "x"}] * 3)
    with pytest.raises(DataError, match="column image is struct<bytes: string>"):
        check.read_labels(toy)


def test_other_rows_than_the_manifest_counts_are_refused(toy: Manifest) -> None:
    pq.write_table(pq.read_table(toy.paths[0]).slice(1), toy.paths[0])
    with pytest.raises(DataError, match="2 rows, manifest says 3"):
        check.read_labels(toy)


@pytest.mark.parametrize("counts", [{}, {TRAIN: (2, 1)}, {TRAIN: (1, 2, 0), HELDOUT: (0, 1)}])
def test_counts_that_are_not_those_of_the_labels_are_refused(
    toy: Manifest, counts: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(DataError, match="differ from the shards"):
        check.read_labels(replace(toy, counts=counts))


def test_a_wrong_count_names_its_class(toy: Manifest) -> None:
    path = toy.directory / MANIFEST
    content = json.loads(path.read_text())
    content["counts"][HELDOUT] = [0, 3]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 of dog, not 3"):
        check.read_labels(read_manifest(toy.directory))


def test_no_shard_and_an_unknown_split_are_refused(toy: Manifest) -> None:
    with pytest.raises(DataError, match="lists no shard"):
        check.read_labels(replace(toy, shards=()))
    other = replace(toy.shards[0], split="validation")
    with pytest.raises(DataError, match="unknown split 'validation'"):
        check.read_labels(replace(toy, shards=(other,)))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5),
    st.lists(st.sampled_from("defghi"), min_size=1, max_size=5),
)
def test_ids_that_occur_twice_are_counted(train: list[str], heldout: list[str]) -> None:
    """Any ids for training and held-out samples: the ones that occur twice are an error."""
    both = [*train, *heldout]
    images = [
        Sample(str(n), TRAIN if n < len(train) else HELDOUT, b"%d" % n, "", 0)
        for n in range(len(both))
    ]
    with tempfile.TemporaryDirectory() as folder:
        made = prepare(source(images), Path(folder) / "d")
        rewrite(made.paths[0], sample_id=list(train))
        rewrite(made.paths[1], sample_id=list(heldout))
        made = reseal(made)
        twice = {sample_id for sample_id in both if both.count(sample_id) > 1}
        if not twice:
            assert sorted(both) == check.read_labels(made)["sample_id"].to_pylist()
            return
        with pytest.raises(DataError) as raised:
            check.read_labels(made)
    assert raised.value.what.startswith(f"{len(twice)} sample ids occur more than once: ")
    assert all(f"{sample_id} (" in raised.value.what for sample_id in sorted(twice)[:5])
