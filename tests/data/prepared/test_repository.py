"""Repositories of the Hugging Face hub on a disk: splits, columns and classes are found."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.job.datasets import locate_data
from lotus_ray.job.load import load_job

JOB = """
store: runs
epochs: 1
grid:
  methods: [original]
  datasets: [{name: photos, parquet: {OPTIONS}, forget: {fraction: 0.5}, img_size: 2}]
  models: [{name: resnet18_cifar, train: {epochs: 1, lr: 0.1}}]
  seeds: [1]
"""
CARD = """---
license: mit
dataset_info:
  features:
  - name: img
    dtype: image
  - name: fine
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
  - name: coarse
    dtype: int64
---
# Photographs
"""


def write(path: Path, image: str = "image", label: str = "label", named: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": b"%d" % n + str(path).encode(), "path": None} for n in range(2)]
    table = pa.table({image: rows, label: [0, 1]})
    if named:
        features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": ["a", "b"]}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, path)


def located(root: Path, options: str = "") -> Manifest:
    job = root.parent / "job.yaml"
    job.write_text(JOB.replace("OPTIONS", f"repository: {root}{options}"))
    (manifest,) = locate_data(load_job(job), root.parent / "made")
    assert len(read_labels(manifest)) == manifest.rows("train") + manifest.rows("heldout")
    return manifest


def files(manifest: Manifest, root: Path) -> dict[str, list[str]]:
    return {
        split: [s.file.removeprefix(f"{root}/") for s in manifest.shards if s.split == split]
        for split in ("train", "heldout")
    }


@pytest.mark.parametrize(
    ("train", "heldout"),
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
         ["data/test-00000-of-00001.parquet"]),
        (["default/train/0000.parquet"], ["default/validation/0000.parquet"]),
        (["train/a.parquet", "train/b.parquet"], ["val/a.parquet"]),
        (["train.parquet"], ["valid.parquet"]),
        (["plain_text/training-0.parquet"], ["plain_text/eval-0.parquet"]),
    ],
    ids=lambda names: names[0],
)  # fmt: skip
def test_splits_are_found_by_the_names_of_files(
    tmp_path: Path, train: list[str], heldout: list[str]
) -> None:
    root = tmp_path / "repository"
    for name in (*train, *heldout):
        write(root / name)
    manifest = located(root)
    assert files(manifest, root) == {"train": train, "heldout": heldout}
    assert manifest.classes == ("a", "b")


def test_columns_and_classes_come_from_the_card(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name in ("train", "test"):
        write(root / f"data/{name}-0.parquet", "img", "fine", named=False)
    (root / "README.md").write_text(CARD)
    manifest = located(root)
    assert manifest.classes == ("cat", "dog")
    assert (manifest.columns.image, manifest.columns.label) == ("img", "fine")


def test_classes_are_those_of_the_column_that_is_read(tmp_path: Path) -> None:
    """The card names the classes of one column, and the job takes another."""
    root = tmp_path / "repository"
    for name in ("train", "test"):
        write(root / f"data/{name}-0.parquet", "img", "coarse", named=False)
    (root / "README.md").write_text(CARD)
    with pytest.raises(DataError, match="do not name their classes"):
        located(root, ", label: coarse")
    assert located(root, ", label: coarse, classes: [x, y]").classes == ("x", "y")


def test_columns_come_from_the_files_where_there_is_no_card(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name in ("train", "test"):
        write(root / f"data/{name}-0.parquet", "img", "fine")
    assert located(root).classes == ("a", "b")


def test_the_card_lists_the_files_of_each_configuration(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name in ("large/x", "large/y", "small/x", "small/y"):
        write(root / f"{name}.parquet")
    (root / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {size}\n  data_files:\n  - {{split: train, path: {size}/x*}}\n"
            f"  - {{split: held, path: [{size}/y.parquet]}}\n"
            for size in ("large", "small")
        )
        + "---\n"
    )
    with pytest.raises(DataError, match="2 configurations: large, small"):
        located(root)
    with pytest.raises(DataError, match="no configuration 'smal'") as raised:
        located(root, ", config: smal")
    assert raised.value.nearest == "small"
    with pytest.raises(DataError, match="there is no split validation") as raised:
        located(root, ", config: small, heldout_split: validation")
    assert raised.value.nearest == "one of held, train"
    manifest = located(root, ", config: small, heldout_split: held")
    assert files(manifest, root) == {"train": ["small/x.parquet"], "heldout": ["small/y.parquet"]}


def test_classes_are_those_of_the_configuration_that_is_read(tmp_path: Path) -> None:
    """The card's default is its second one. Its files do not name their classes."""
    root = tmp_path / "repository"
    for name in ("train", "test"):
        for config in ("first", "second"):
            write(root / f"{config}/{name}-0.parquet", named=False)

    def feature(names: str) -> str:
        label = f"  - name: label\n    dtype: {{class_label: {{names: {names}}}}}\n"
        return f"  features:\n  - {{name: image, dtype: image}}\n{label}"

    data = "[{split: train, path: CONFIG/train*}, {split: test, path: CONFIG/test*}]"
    card = (
        "---\ndataset_info:\n"
        f"- config_name: first\n{feature('[dog, cat]')}"
        f"- config_name: second\n{feature('[cat, dog]')}"
        f"configs:\n- config_name: first\n  data_files: {data.replace('CONFIG', 'first')}\n"
        f"- config_name: second\n  default: true\n"
        f"  data_files: {data.replace('CONFIG', 'second')}\n---\n"
    )
    (root / "README.md").write_text(card)
    assert located(root).classes == ("cat", "dog")
    assert located(root, ", config: first").classes == ("dog", "cat")
    (root / "README.md").write_text(card.replace("config_name: second\n  f", "config_name: x\n  f"))
    with pytest.raises(DataError, match="do not name their classes"):
        located(root)


def test_a_split_can_be_chosen(tmp_path: Path) -> None:
    """Validation is held out where there is also a test, whose labels are often not public."""
    root = tmp_path / "repository"
    for name in ("train", "validation", "test"):
        write(root / f"data/{name}-0.parquet")
    assert files(located(root), root)["heldout"] == ["data/validation-0.parquet"]
    chosen = located(root, ", heldout_split: test")
    assert files(chosen, root)["heldout"] == ["data/test-0.parquet"]


def test_a_repository_of_images_says_how_they_are_prepared(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name in ("train/cat/1.jpg", "train/dog/2.JPG", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    with pytest.raises(DataError, match="no Parquet file, but 2 images are there") as raised:
        located(root)
    assert f"prepare image_folder data/NAME --root {root}" in raised.value.next_command
