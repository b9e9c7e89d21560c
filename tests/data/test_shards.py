from __future__ import annotations

import errno
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from lotus_ray.data import shards
from lotus_ray.data.shards import Manifest
from lotus_ray.data.sources import HELDOUT, SOURCES, SPLITS, TRAIN, Images, Sample, Source, find
from lotus_ray.errors import DataError, JobError
from tests.toy import source

SAMPLES = [
    Sample("c", TRAIN, b"image c", "c.png", 0),
    Sample("a", TRAIN, b"image a", "a.png", 1),
    Sample("d", HELDOUT, b"image d", "d.png", 1),
    Sample("b", TRAIN, b"image b", "b.png", 1),
]


@pytest.fixture
def toy(tmp_path: Path) -> Manifest:
    return shards.prepare(source(SAMPLES), tmp_path / "toy")


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


def test_a_full_shard_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 training images at 2 a shard are shards of 2 and 1; the held-out one has its own."""
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 2)
    made = shards.prepare(source(SAMPLES), tmp_path / "toy")
    assert [(shard.split, shard.rows) for shard in made.shards] == [
        (TRAIN, 2),
        (TRAIN, 1),
        (HELDOUT, 1),
    ]
    assert shards.read_labels(made)["sample_id"].to_pylist() == ["a", "b", "c", "d"]


def test_preparing_again_keeps_every_file(toy: Manifest) -> None:
    before = {path: path.stat().st_mtime_ns for path in toy.directory.iterdir()}
    assert shards.prepare(source(SAMPLES), toy.directory) == toy
    assert {path: path.stat().st_mtime_ns for path in toy.directory.iterdir()} == before


def test_preparing_again_notices_a_changed_shard(toy: Manifest) -> None:
    Path(toy.paths[0]).write_bytes(b"something else")
    with pytest.raises(DataError, match="changed since it was prepared"):
        shards.prepare(source(SAMPLES), toy.directory)


def test_the_digest_does_not_depend_on_the_place(toy: Manifest, tmp_path: Path) -> None:
    other = shards.prepare(source(SAMPLES), tmp_path / "elsewhere" / "deep")
    assert other.digest == toy.digest


def test_the_digest_does_not_depend_on_how_parquet_is_written(
    toy: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 1)
    other = shards.prepare(source(SAMPLES), tmp_path / "other")
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
    assert shards.prepare(other, tmp_path / "other").digest != toy.digest


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def samples(split: str) -> Iterator[Sample]:
        yield SAMPLES[0]
        raise ConnectionError("the line is cut")

    broken = Source("toy", "", lambda root: Images(("cat",), samples))
    with pytest.raises(ConnectionError):
        shards.prepare(broken, tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds no manifest") as caught:
        shards.prepare(source(SAMPLES), tmp_path)
    assert caught.value.where == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    assert shards.prepare(source(SAMPLES), tmp_path / "toy").rows(TRAIN) == 3


def test_a_place_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        shards.prepare(source(SAMPLES), tmp_path / "file" / "toy")


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="holds no manifest"):
        shards.prepare(source(SAMPLES), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", refuse)
    with pytest.raises(DataError, match="cannot write: No space left on device") as caught:
        shards.prepare(source(SAMPLES), tmp_path / "toy")
    assert caught.value.where.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_two_that_prepare_at_once_end_with_one_data_set(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def open_slowly(root: Path | None) -> Images:
        both.wait(timeout=10)
        return source(SAMPLES).open(root)

    slow = Source("toy", "", open_slowly)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: shards.prepare(slow, tmp_path / "toy"), range(2)))
    assert made[0] == made[1] == shards.verify(shards.read_manifest(tmp_path / "toy"))
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


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
    with pytest.raises(DataError, match="format 1, expected 2"):
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


def test_an_id_that_occurs_twice_is_refused_even_across_splits(tmp_path: Path) -> None:
    twice = [*SAMPLES, replace(SAMPLES[0], split=HELDOUT)]
    with pytest.raises(DataError, match="1 sample ids occur more than once: c"):
        shards.read_labels(shards.prepare(source(twice), tmp_path / "toy"))


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_refused(tmp_path: Path, label: int) -> None:
    wrong = [*SAMPLES, replace(SAMPLES[0], sample_id="z", label=label)]
    with pytest.raises(DataError, match=f"label {label} of z is outside 0 … 1"):
        shards.read_labels(shards.prepare(source(wrong), tmp_path / "toy"))


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


def test_digits_are_those_of_scikit_learn() -> None:
    images = SOURCES["digits"].open(None)
    samples = sorted((s for split in SPLITS for s in images.samples(split)), key=attrgetter("path"))
    assert [sample.label for sample in samples] == load_digits().target.tolist()
    assert len({sample.sample_id for sample in samples}) == 1797
    assert sum(sample.split == HELDOUT for sample in samples) == 362


def test_pixels_of_a_digit_by_hand() -> None:
    """The first row of the first scan is 0 0 5 13 9 1 0 0 of 16: times 255/16, rounded."""
    first = next(iter(SOURCES["digits"].open(None).samples(TRAIN)))
    pixels = np.asarray(Image.open(io.BytesIO(first.image)))
    assert pixels.shape == (8, 8)
    assert pixels[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(JobError) as caught:
        find("digit", "job.yaml:3 grid.datasets[0].source")
    assert caught.value.nearest == "digits"
    assert caught.value.where == "job.yaml:3 grid.datasets[0].source"
