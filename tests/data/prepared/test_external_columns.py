"""Parquet as programs write it: labels as text, other types of bytes, orders of classes, copies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.external import read_external
from lotus_ray.data.prepared.manifest import Columns, Manifest
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN
from tests.data.prepared.test_external import png
from tests.toy import PLAIN, read_pixels

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LABELS = {TRAIN: [0, 1, 1], HELDOUT: [1, 0]}


def write(path: Path, image: Any, labels: Any, names: list[str] | None = None) -> Path:
    """Write a file; with names of classes, as the hub's own writer stores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": image, "label": labels})
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path)
    return path


def images(first: int, count: int, kind: pa.DataType = IMAGE) -> pa.Array:
    rows = [{"bytes": png(first + n), "path": f"{n}.png"} for n in range(count)]
    return pa.array(rows if pa.types.is_struct(kind) else [row["bytes"] for row in rows], kind)


def read(folder: Path, classes: list[str] | None = None, train: str = "train*") -> Manifest:
    patterns = {TRAIN: [f"{folder}/{train}"], HELDOUT: [f"{folder}/test*"]}
    return read_external(patterns, Columns(sample_id=None), classes, folder / "manifest")


def labels(manifest: Manifest) -> dict[str, list[int]]:
    table = read_labels(manifest).to_pylist()
    return {s: [row["label"] for row in table if row["split"] == s] for s in (TRAIN, HELDOUT)}


CATEGORY = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), CATEGORY, pa.string_view()], ids=str
)
@pytest.mark.parametrize("classes", [None, ["cat", "dog"], ["dog", "cat"]], ids=str)
def test_labels_that_are_text_are_matched_by_name(
    tmp_path: Path, kind: pa.DataType, classes: list[str] | None
) -> None:
    for split, file in ((TRAIN, "train"), (HELDOUT, "test")):
        names = [["cat", "dog"][label] for label in LABELS[split]]
        text = pa.array(names, pa.string() if kind == CATEGORY else kind)
        column = text.dictionary_encode().cast(kind) if kind == CATEGORY else text
        write(tmp_path / f"{file}.parquet", images(0, len(names)), column)
    manifest = read(tmp_path, classes)
    assert manifest.classes == tuple(classes or ["cat", "dog"])
    of_cat = manifest.classes.index("cat")
    assert labels(manifest) == {s: [n ^ of_cat for n in LABELS[s]] for s in LABELS}


def test_a_label_of_no_class_is_named_with_its_row(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", images(0, 2), ["cat", "dog"])
    write(tmp_path / "test.parquet", images(5, 2), ["cat", "dgo"])
    with pytest.raises(DataError, match="the label 'dgo' is no class") as raised:
        read_labels(read(tmp_path, ["cat", "dog"]))
    assert raised.value.where == f"{tmp_path}/test.parquet, column label, row 1"
    assert raised.value.nearest == "dog"


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())]),
        pa.struct([("path", pa.string()), ("bytes", pa.binary_view())]),
        pa.binary(),
        pa.large_binary(),
    ],
    ids=str,
)
def test_images_may_be_of_any_type_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    write(tmp_path / "train.parquet", images(10, 3, kind), [0, 1, 0])
    write(tmp_path / "test.parquet", images(20, 2, kind), [0, 1])
    manifest = read(tmp_path, ["cat", "dog"])
    assert labels(manifest) == {TRAIN: [0, 1, 0], HELDOUT: [0, 1]}
    wanted = ["heldout/test.parquet:1", "train/train.parquet:0", "train/train.parquet:2"]
    roles = Roles(wanted, np.array([1, 0, 0]), np.array([2, 0, 1], np.int8), 2)
    found = read_pixels(wanted_row_groups([manifest.directory], roles), roles, PLAIN)
    assert found[:, 0, 0, 0].tolist() == [21, 10, 12]


@pytest.mark.parametrize(
    ("image", "label", "what"),
    [
        ("names", [0, 1], "column image is string"),
        (None, [0.0, 1.0], "column label is double"),
        (None, [[0], [1]], "column label is list"),
    ],
)
def test_another_type_is_named_beside_the_wanted_one(
    tmp_path: Path, image: Any, label: Any, what: str
) -> None:
    for first, file in ((0, "train"), (5, "test")):
        names = [f"{first}.png", f"{first + 1}.png"]
        write(tmp_path / f"{file}.parquet", names if image else images(first, 2), label)
    with pytest.raises(DataError, match=what) as raised:
        read_labels(read(tmp_path, ["cat", "dog"]))
    assert "struct<bytes" in raised.value.nearest


def test_paths_without_bytes_are_seen_before_anything_runs(tmp_path: Path) -> None:
    paths = pa.array([{"bytes": None, "path": f"{n}.png"} for n in range(3)], IMAGE)
    write(tmp_path / "train.parquet", paths, [0, 1, 0])
    write(tmp_path / "test.parquet", images(5, 2), [0, 1])
    with pytest.raises(DataError, match=r"image\.bytes is null in 3 rows: .* paths, not images"):
        read_labels(read(tmp_path, ["cat", "dog"]))


def test_files_with_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    for number, part in enumerate("ab"):
        write(tmp_path / part / "train/0.parquet", images(number, 1), [number])
    write(tmp_path / "a/test/0.parquet", images(9, 2), [0, 1])
    patterns = {TRAIN: [f"{tmp_path}/*/train/*"], HELDOUT: [f"{tmp_path}/*/test/*"]}
    manifest = read_external(patterns, Columns(sample_id=None), ["c", "d"], tmp_path / "m")
    table = read_labels(manifest).to_pylist()
    assert {row["sample_id"]: row["label"] for row in table if row["split"] == TRAIN} == {
        "train/a/train/0.parquet:0": 0,
        "train/b/train/0.parquet:0": 1,
    }
    assert table[0]["sample_id"] == "heldout/0.parquet:0"


@pytest.mark.parametrize("copied", [False, True])
def test_training_files_cannot_be_held_out_too(tmp_path: Path, copied: bool) -> None:
    first = write(tmp_path / "train.parquet", images(0, 2), [0, 1])
    write(tmp_path / "test.parquet", images(5, 2), [0, 1])
    if copied:
        shutil.copy(first, tmp_path / "test-1.parquet")
    with pytest.raises(DataError, match="the same images are train and heldout"):
        read(tmp_path, ["cat", "dog"], train="train*" if copied else "*.parquet")


def test_each_file_may_have_its_own_order_of_classes(tmp_path: Path) -> None:
    """A held-out label 0 is a dog in its file: 1 in the data set."""
    write(tmp_path / "train.parquet", images(0, 3), [0, 1, 1], ["cat", "dog"])
    write(tmp_path / "test.parquet", images(5, 3), [0, 1, 0], ["dog", "cat"])
    manifest = read(tmp_path)
    assert manifest.classes == ("cat", "dog")
    assert labels(manifest) == {TRAIN: [0, 1, 1], HELDOUT: [1, 0, 1]}


def test_files_that_name_other_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", images(0, 2), [0, 1], ["cat", "dog"])
    write(tmp_path / "test.parquet", images(5, 2), [0, 1], ["cat", "cow"])
    with pytest.raises(DataError, match="two files name different classes: cow"):
        read(tmp_path)
    assert labels(read(tmp_path, ["0", "1"])) == {TRAIN: [0, 1], HELDOUT: [0, 1]}


def test_a_file_may_hold_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", images(0, 2), [0, 1])
    write(tmp_path / "train-1.parquet", images(0, 0), pa.array([], pa.int64()))
    write(tmp_path / "test.parquet", images(5, 2), [0, 1])
    assert labels(read(tmp_path, ["cat", "dog"])) == {TRAIN: [0, 1], HELDOUT: [0, 1]}


def test_a_file_that_git_lfs_did_not_fetch_is_named(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (tmp_path / "train.parquet").write_text(pointer)
    with pytest.raises(DataError, match="git-lfs has not fetched") as raised:
        read(tmp_path)
    assert "git lfs pull" in raised.value.next_command
