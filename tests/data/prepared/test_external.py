"""Parquet of somebody else: found, identified and read where it lies; what would run is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from lotus_ray.base.errors import DataError
from lotus_ray.cli.main import main
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared import check
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.external import read_external
from lotus_ray.data.prepared.manifest import Columns, Manifest, read_manifest
from lotus_ray.data.prepared.parquet import list_parquet, open_parquet
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.store.results import Store
from tests.toy import PLAIN, Canary, read_pixels

JOB = Path(__file__).parents[3] / "jobs" / "digits.yaml"
THEIRS = Columns("img", "fine_label", sample_id=None)


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 2, 3), value, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, first: int, labels: list[int], names: list[str] | None) -> None:
    """Write a file as the hub has it: row i shows the grey value first + i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(first + place), "path": None} for place in range(len(labels))]
    table = pa.table({"img": images, "fine_label": labels})
    if names:
        info = {"info": {"features": {"fine_label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=2)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write(tmp_path / "data/train-0.parquet", 0, [0, 1, 1], ["cat", "dog"])
    write(tmp_path / "data/train-1.parquet", 10, [1, 0], None)
    write(tmp_path / "data/test/part.parquet", 20, [0, 1, 0], ["cat", "dog"])
    return tmp_path / "data"


def adopted(files: Path, classes: list[str] | None = None) -> Manifest:
    patterns = {TRAIN: [f"{files}/train-*.parquet"], HELDOUT: [f"{files}/test"]}
    return read_external(patterns, THEIRS, classes, files.parent / "manifest")


def test_files_are_found_by_path_folder_and_pattern(files: Path) -> None:
    assert list_parquet(f"{files}/train-1.parquet") == [f"{files}/train-1.parquet"]
    assert list_parquet(f"{files}/train-*.parquet") == [
        f"{files}/train-{n}.parquet" for n in (0, 1)
    ]
    assert list_parquet(str(files / "test")) == [f"{files}/test/part.parquet"]
    assert list_parquet(f"file://{files}/train-*.parquet")[1] == f"file://{files}/train-1.parquet"
    for nowhere in (f"{files}/nothing-*.parquet", f"{files}/none", "s4://bucket/x"):
        with pytest.raises(DataError) as raised:
            list_parquet(nowhere)
        assert raised.value.where == nowhere


def test_a_row_is_known_by_its_file_and_place(files: Path) -> None:
    made = adopted(files)
    assert made.classes == ("cat", "dog")
    labels = read_labels(made).to_pylist()
    assert [(row["sample_id"], row["label"]) for row in labels] == [
        ("heldout/part.parquet:0", 0),
        ("heldout/part.parquet:1", 1),
        ("heldout/part.parquet:2", 0),
        ("train/train-0.parquet:0", 0),
        ("train/train-0.parquet:1", 1),
        ("train/train-0.parquet:2", 1),
        ("train/train-1.parquet:0", 1),
        ("train/train-1.parquet:1", 0),
    ]
    assert check.verify(read_manifest(made.directory)) == made


def test_pixels_of_wanted_rows_are_read_in_place(files: Path) -> None:
    made = adopted(files)
    wanted = ["heldout/part.parquet:2", "train/train-0.parquet:2", "train/train-1.parquet:0"]
    roles = Roles(wanted, np.array([0, 1, 1]), np.array([2, 0, 1], np.int8), 2)
    found = read_pixels(wanted_row_groups([made.directory], roles), roles, PLAIN)
    assert found[:, 0, 0, 0].tolist() == [22, 2, 10]
    assert all(
        row_group.digests is None for row_group in wanted_row_groups([made.directory], roles)
    )
    assert made.counts == {}
    assert not list(made.directory.glob("*.parquet"))


def test_the_identity_follows_the_content_and_not_the_place(files: Path, tmp_path: Path) -> None:
    before = adopted(files)
    moved = files.rename(tmp_path / "moved")
    assert adopted(moved).digest == before.digest
    write(moved / "train-1.parquet", 10, [1, 1], None)
    changed = adopted(moved)
    assert changed.digest != before.digest
    write(moved / "train-1.parquet", 10, [1, 0], None)
    with pytest.raises(DataError, match="changed since"):
        check.verify(changed)


def test_classes_have_to_be_known(files: Path) -> None:
    for number, path in enumerate(files.rglob("*.parquet")):
        write(path, 2 * number, [0, 1], None)
    with pytest.raises(DataError, match="do not name their classes"):
        adopted(files)
    assert adopted(files, ["a", "b"]).classes == ("a", "b")
    with pytest.raises(DataError, match=r"label 1 of .* is outside 0 … 0"):
        read_labels(adopted(files, ["a"]))


@pytest.mark.parametrize("keep", [0, 3, 100, -8, -20])
def test_a_torn_file_is_refused_by_name(files: Path, keep: int) -> None:
    path = files / "train-0.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="cannot be read") as raised:
        adopted(files)
    assert raised.value.where == str(path)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (Columns("image", "fine_label", None), "there is no column image"),
        (Columns("img", "label", None), "there is no column label"),
        (Columns("img", "img", None), "column img is struct"),
        (Columns("fine_label", "fine_label", None), "column fine_label is int64"),
    ],
)
def test_wrong_columns_are_refused_by_name(files: Path, columns: Columns, what: str) -> None:
    made = read_external({TRAIN: [str(files)]}, columns, ["a", "b"], files.parent / "m")
    with pytest.raises(DataError, match=what):
        read_labels(made)


@pytest.fixture
def canary() -> Iterator[list[bytes]]:
    pa.register_extension_type(Canary())
    Canary.touched.clear()
    yield Canary.touched
    pa.unregister_extension_type("tests.canary")


def test_a_column_that_runs_code_is_refused_before_it_is_parsed(
    tmp_path: Path, canary: list[bytes]
) -> None:
    storage = pa.array([b"x"], pa.binary())
    column = pa.ExtensionArray.from_storage(Canary(), storage)
    path = tmp_path / "evil.parquet"
    pq.write_table(pa.table({"img": column, "fine_label": [0]}), path)
    canary.clear()
    with pytest.raises(DataError, match="Arrow extension type") as raised:
        open_parquet(str(path))
    assert raised.value.where == str(path)
    assert canary == []
    pq.read_schema(path)
    assert set(canary) == {b"payload"}  # what the check spares us


def test_a_job_runs_on_somebody_elses_files(tmp_path: Path) -> None:
    """40 training and 20 held-out images of two greys, from files to a table."""
    for name, first, count in (("train", 0, 40), ("test", 100, 20)):
        write(tmp_path / f"{name}.parquet", first, [n % 2 for n in range(count)], ["even", "odd"])
    dataset = {
        "name": "Theirs",
        "parquet": {
            "train": [str(tmp_path / "train.parquet")],
            "heldout": [str(tmp_path / "test.parquet")],
            "image": "img",
            "label": "fine_label",
        },
        "forget": {"per_class": 3},
        "img_size": 8,
    }
    arguments = ["grid", str(JOB), "--local", "--store", str(tmp_path / "store")]
    for value in (
        f"grid.datasets=[{json.dumps(dataset)}]",
        "grid.methods=[finetune, lotus]",
        "epochs=1",
        "grid.models.0.options={width: 2}",
        "grid.models.0.train={epochs: 1}",
    ):
        arguments += ["--set", value]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    assert "Theirs, ResNet18, instance_3perclass" in result.stdout
    rows = Store.open(str(tmp_path / "store")).rows()
    assert {row.status for row in rows.values()} == {"ok"}
    again = CliRunner().invoke(main, arguments)
    assert "DONE 3/3 cells" in again.stderr
    assert "running" not in again.stderr
