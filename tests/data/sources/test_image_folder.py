"""Photographs as people keep them: names of splits, links, suffixes, one folder, or a csv."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from lotus_ray.base.errors import DataError, JobError
from lotus_ray.cli.main import main
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, SOURCES, TRAIN
from lotus_ray.data.sources.class_folders import SUFFIXES

FOLDER = SOURCES["image_folder"]
CLASSES = ("cat", "ship")


def photographs(folder: Path, count: int, classes: tuple[str, ...] = CLASSES) -> None:
    """Write so many small images of each class, each of another colour."""
    for label, name in enumerate(classes):
        for number in range(count):
            path = folder / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = (label, number, sum(folder.name.encode()) % 256)
            Image.new("RGB", (2, 2), colour).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """3 training images and 2 held-out ones of each class."""
    photographs(tmp_path / "photos/train", 3)
    photographs(tmp_path / "photos/val", 2)
    return tmp_path / "photos"


def prepared(root: Path, heldout: float | None = None) -> Manifest:
    return prepare(FOLDER, root.parent / "data", root, heldout=heldout)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prepare", "image_folder", *map(str, arguments), "--local"])


def ids(manifest: Manifest, split: str) -> set[str]:
    paths = [manifest.uri(shard) for shard in manifest.shards if shard.split == split]
    return {name for path in paths for name in pq.read_table(path)["sample_id"].to_pylist()}


@pytest.mark.parametrize("name", ["valid", "validation", "test", "Val", "TEST"])
def test_the_held_out_folder_has_many_names(photos: Path, name: str) -> None:
    (photos / "val").rename(photos / name)
    (photos / "train").rename(photos / "Train")
    manifest = prepared(photos)
    assert (manifest.rows(TRAIN), manifest.rows(HELDOUT)) == (6, 4)
    assert f"{name}/cat/00.png" in ids(manifest, HELDOUT)


def test_a_second_held_out_folder_is_said_to_be_unread(photos: Path) -> None:
    photographs(photos / "test", 1)
    manifest = prepared(photos)
    assert manifest.rows(HELDOUT) == 4
    assert manifest.notes == ("test/ is not read",)


def test_nothing_held_out_is_refused_unless_it_is_meant(photos: Path) -> None:
    shutil.rmtree(photos / "val")
    result = command(photos.parent / "data", "--root", photos)
    assert result.exit_code == 3
    assert "no image is held out" in result.stderr
    assert "--heldout 0.2" in result.stderr
    assert not (photos.parent / "data").exists()
    assert prepared(photos, 0).rows(HELDOUT) == 0


def test_a_share_of_each_class_is_held_out_by_id(tmp_path: Path) -> None:
    """A fifth of 10 images is 2. More images elsewhere do not change which."""
    photographs(tmp_path / "photos", 10)
    first = prepared(tmp_path / "photos", 0.2)
    held_out = ids(first, HELDOUT)
    assert sorted(name[:4] for name in held_out) == ["cat/", "cat/", "ship", "ship"]
    assert len(ids(first, TRAIN)) == 16
    shutil.copytree(tmp_path / "photos", tmp_path / "more/photos")
    photographs(tmp_path / "more/photos", 10, ("dog",))
    assert ids(prepared(tmp_path / "more/photos", 0.2), HELDOUT) > held_out
    assert "0.2 of each class" in first.notes[-1]


def test_a_share_replaces_the_held_out_folder(photos: Path) -> None:
    """As where test/ has no labels."""
    shutil.rmtree(photos / "val")
    (photos / "test").mkdir()
    Image.new("RGB", (2, 2)).save(photos / "test/1.png")
    with pytest.raises(DataError, match=r"1\.png is outside the folder of a class"):
        prepared(photos)
    manifest = prepared(photos, 0.3)
    assert (manifest.rows(TRAIN), manifest.rows(HELDOUT)) == (4, 2)
    assert manifest.notes[0] == "test/ is not read"


def test_a_share_is_refused_where_it_has_no_meaning(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="digits has held-out images of its own"):
        prepare(SOURCES["digits"], tmp_path / "digits", heldout=0.2)


@pytest.mark.parametrize(
    ("again", "what"),
    [
        (("other", None), r"was made with --root .*photos, not .*other"),
        (("photos", 0.5), "was made without --heldout"),
    ],
)
def test_other_options_do_not_keep_the_old_data(
    photos: Path, again: tuple[str, float | None], what: str
) -> None:
    first = prepared(photos)
    shutil.copytree(photos, photos.parent / "other")
    root, heldout = again
    with pytest.raises(DataError, match=what) as raised:
        prepared(photos.parent / root, heldout)
    assert "rm -r" in raised.value.next_command
    assert prepare(FOLDER, first.directory, photos / "../photos") == first
    assert prepare(FOLDER, first.directory) == first  # as before, where nothing is said


def test_every_suffix_of_torchvision_is_read_and_others_are_counted(photos: Path) -> None:
    assert sorted(SUFFIXES) == sorted(IMG_EXTENSIONS)
    Image.new("L", (2, 2)).save(photos / "train/cat/a.pgm")
    Image.new("L", (2, 2)).save(photos / "train/cat/b.GIF")
    (photos / "val/ship/c.gif").write_bytes(b"")
    (photos / "train/notes.txt").write_text("who took these")
    (photos / "train/cat/.DS_Store").write_bytes(b"")
    manifest = prepared(photos)
    assert manifest.rows(TRAIN) == 7
    (note,) = manifest.notes
    assert note.startswith("3 files left out: 2 .gif, 1 .txt; images are .jpg")


def test_a_class_without_images_says_what_an_image_is(photos: Path) -> None:
    (photos / "train/dog").mkdir()
    (photos / "train/dog/1.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"dog holds no image \(\.jpg .*\.webp\)"):
        prepared(photos)


def test_links_are_followed_and_broken_ones_named(photos: Path) -> None:
    photographs(photos.parent / "elsewhere", 4, ("more",))
    (photos / "train/ship/more").symlink_to(photos.parent / "elsewhere/more")
    (photos / "train/cat/gone.jpg").symlink_to("nowhere.jpg")
    (photos / "train/cat/up").symlink_to(photos)
    manifest = prepared(photos)
    assert manifest.rows(TRAIN) == 6 + 4
    assert "train/ship/more/00.png" in ids(manifest, TRAIN)
    assert manifest.notes == (
        "1 links to files that are not there left out: train/cat/gone.jpg",
        "1 links to a folder above them left out: train/cat/up",
    )


def test_a_class_is_one_however_its_letters_are_composed(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != apart
    photographs(tmp_path / "photos/train", 3, (composed, "bar"))
    photographs(tmp_path / "photos/val", 2, (apart, "bar"))
    manifest = prepared(tmp_path / "photos")
    assert manifest.classes == ("bar", composed)
    assert manifest.counts[HELDOUT] == (2, 2)


def test_a_name_that_is_no_utf_8_is_shown(photos: Path) -> None:
    image = photos / "train/ship/00.png"
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xfcber.png"))
    with pytest.raises(DataError, match=r"no UTF-8: train/ship/\\xfcber\.png") as raised:
        prepared(photos)
    assert "convmv" in raised.value.next_command


def test_a_folder_above_train_is_not_a_class(photos: Path) -> None:
    with pytest.raises(DataError, match="train is missing") as raised:
        prepared(photos.parent, 0.2)
    assert raised.value.next_command.endswith(f"--root {photos}")
    shutil.rmtree(photos / "train")
    with pytest.raises(DataError, match="train is missing"):
        prepared(photos, 0.2)


@pytest.mark.parametrize("excel", [False, True])
def test_a_csv_lists_path_label_and_split(tmp_path: Path, excel: bool) -> None:
    photographs(tmp_path / "pictures", 3, ("x",))
    rows = [
        ("Path", "Label", "split"),
        ("pictures/x/00.png", "10", "train"),
        ("pictures/x/01.png", "9", "Training"),
        ("pictures/x/02.png", "9", "test"),
    ]
    separator, end = (";", "\r\n") if excel else (",", "\n")
    text = "".join(separator.join(row) + (separator if excel else "") + end for row in rows)
    (tmp_path / "list.CSV").write_bytes((b"\xef\xbb\xbf" if excel else b"") + text.encode())
    manifest = prepared(tmp_path / "list.CSV")
    assert manifest.classes == ("9", "10")
    assert ids(manifest, TRAIN) == {"pictures/x/00.png", "pictures/x/01.png"}
    assert manifest.counts[HELDOUT] == (1, 0)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("x/00.png,cat,train", "x/00.png is listed twice"),
        ("x/09.png,cat,train", "there is no image 'x/09.png'"),
        ("x/01.png,cat,trian", "unknown split 'trian'"),
        ("x/01.png,,train", "an image has no label"),
        ("x/01.png,cat,train,more", "a row has 4 values, and the first row 3"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: str, what: str) -> None:
    photographs(tmp_path, 2, ("x",))
    (tmp_path / "list.csv").write_text(f"path,label,split\n\nx/00.png,cat,train\n{row}\n")
    with pytest.raises(DataError, match=what) as raised:
        prepared(tmp_path / "list.csv")
    assert raised.value.where == f"{tmp_path}/list.csv:4"


def test_what_was_left_out_is_printed_and_kept(photos: Path) -> None:
    (photos / "val/ship/c.gif").write_bytes(b"")
    result = command(photos.parent / "data", "--root", photos)
    assert "note: 1 file left out: 1 .gif" in result.stderr
    assert read_manifest(photos.parent / "data").notes
