"""Every source on a stand-in of its layout; what is missing or malicious is refused by name."""

from __future__ import annotations

import csv
import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from lotus_ray.base.errors import DataError, JobError
from lotus_ray.data.prepared import check
from lotus_ray.data.prepared.manifest import FORGET_IDS
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, SOURCES, SPLITS, TRAIN, Images, find, mufac
from tests import standins
from tests.toy import Sample

SMALL = {
    "cifar10": (10, lambda root: standins.cifar(root, 10, 6, 2)),
    "cifar100": (100, lambda root: standins.cifar(root, 100, 2, 1)),
    "tiny_imagenet": (4, lambda root: standins.tiny_imagenet(root, 4, 3, 2)),
    "mufac": (8, lambda root: standins.mufac(root, 8, 3, 1)),
    "image_folder": (3, lambda root: standins.imagenet(root, 3, 4, 2)),
    "imagenet": (4, lambda root: standins.ilsvrc(root, 4, 3, 2)),
}
COUNTS = {
    "cifar10": (60, 20),
    "cifar100": (200, 100),
    "tiny_imagenet": (12, 8),
    "mufac": (24, 16),
    "image_folder": (12, 6),
    "imagenet": (12, 8),
}


def samples_of(images: Images, split: str) -> list[Sample]:
    """Read every image of a split, in the order of the index."""
    return [
        Sample(
            row["sample_id"],
            row["split"],
            images.read(row["file"], row["offset"], row["size"]),
            row["path"],
            row["label"],
        )
        for row in images.index.to_pylist()
        if row["split"] == split
    ]


def found(name: str, root: Path) -> tuple[Images, dict[str, list[Sample]]]:
    """Return what a source finds below a root, and all of its samples by split."""
    images = SOURCES[name].open(root)
    return images, {split: samples_of(images, split) for split in SPLITS}


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(name: str, tmp_path: Path) -> Path:
    SMALL[name][1](tmp_path)
    return tmp_path


def test_every_source_with_files_has_a_stand_in() -> None:
    assert SMALL.keys() == {name for name, source in SOURCES.items() if not source.embedded}


def test_every_image_is_found_once_with_its_class(name: str, root: Path) -> None:
    """The colour of a stand-in tells its class: each sample is nearest to its own label's."""
    images, samples = found(name, root)
    classes = SMALL[name][0]
    assert len(images.classes) == classes
    assert tuple(len(samples[split]) for split in SPLITS) == COUNTS[name]
    everything = [sample for split in SPLITS for sample in samples[split]]
    assert len({sample.sample_id for sample in everything}) == len(everything)
    colours = np.array(
        [standins.picture(label, 0, (9, 9)).mean((0, 1)) for label in range(classes)]
    )
    for split in SPLITS:
        labels = [sample.label for sample in samples[split]]
        assert sorted(set(labels)) == list(range(classes))
        for sample in samples[split][:: max(1, len(labels) // 20)]:
            assert sample.split == split
            pixels = np.asarray(Image.open(io.BytesIO(sample.image))).mean((0, 1))
            distance = np.abs(colours - pixels).sum(axis=1)
            assert distance[sample.label] < 40
            assert (distance <= distance[sample.label]).sum() <= 3


def test_two_readings_are_alike(name: str, root: Path) -> None:
    assert found(name, root)[1] == found(name, root)[1]


def test_what_is_prepared_is_what_was_found(name: str, root: Path, tmp_path: Path) -> None:
    made = prepare(SOURCES[name], tmp_path / "prepared", root)
    images, samples = found(name, root)
    labels = check.read_labels(made)
    assert made.classes == images.classes
    assert made.titles == images.titles
    assert len(labels) == sum(len(rows) for rows in samples.values())


def test_a_missing_folder_names_the_layout_and_the_command(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        SOURCES[name].open(tmp_path)
    assert f"{name} is not here" in raised.value.what
    assert raised.value.nearest == f"a folder that holds {SOURCES[name].layout}"
    assert raised.value.next_command == f"lotus-ray prepare {name} DEST --root FOLDER"
    with pytest.raises(DataError):
        prepare(SOURCES[name], tmp_path / "prepared", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pixel_of_a_cifar_image_by_hand(tmp_path: Path) -> None:
    """Row-major red, green, blue planes: place 32 · 1 + 8 is row 1, column 8 of the red one."""
    standins.cifar(tmp_path, 10, 5, 1)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    data = np.arange(3072, dtype=np.uint32).astype(np.uint8)[None]
    batch.write_bytes(pickle.dumps({"data": data, "labels": [7]}, protocol=2))
    first = samples_of(SOURCES["cifar10"].open(tmp_path), TRAIN)[0]
    pixels = np.asarray(Image.open(io.BytesIO(first.image)))
    assert (first.sample_id, first.label) == ("cifar10/train/00000", 7)
    assert pixels[1, 8].tolist() == [40, (1024 + 40) % 256, (2048 + 40) % 256]


class Malicious:
    """Would create a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    standins.cifar(tmp_path, 10, 5, 1)
    canary = tmp_path / "canary"
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(pickle.dumps({"data": Malicious(canary), "labels": []}))
    with pytest.raises(DataError, match=r"data_batch_3 is refused: it asks for (posix|nt)\.mkdir"):
        SOURCES["cifar10"].open(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [1]},
            r"data is \(2, 3072\), not \(1, 3072\)",
        ),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [1]}, "an array is of type f4"),
        ({"data": np.array([None]), "labels": [1]}, "an array is of type O8"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["1"]}, "labels is no list of numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": 1}, "labels is no list of numbers"),
        ({"data": [[0] * 3072], "labels": [1]}, "data is no array"),
        ({"labels": [1]}, "refused: 'data'"),
        ([1, 2], "refused"),
    ],
)
def test_a_strange_cifar_file_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    standins.cifar(tmp_path, 10, 5, 1)
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=reason) as raised:
        SOURCES["cifar10"].open(tmp_path)
    assert raised.value.where == str(file)


def test_a_file_as_python_2_wrote_it_is_read(tmp_path: Path) -> None:
    """The published files hold raw pixels as text, and the names that numpy had then."""
    standins.cifar(tmp_path, 10, 5, 1)
    raw = bytes(range(256)) * 12
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I1\nI3072\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
        b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n" + pickle.BINSTRING + len(raw).to_bytes(4, "little")
    )
    content = b"(dS'data'\n" + array + raw + b"tbsS'labels'\n(lI7\nas."
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    image = samples_of(SOURCES["cifar10"].open(tmp_path), HELDOUT)[0]
    assert image.label == 7
    pixels = np.asarray(Image.open(io.BytesIO(image.image)))
    assert pixels[1, 8].tolist() == [40, 40, 40]


def test_addresses_in_a_pickle_are_not_followed(tmp_path: Path) -> None:
    """An array of objects whose bytes a file chooses: numpy would take them for addresses."""
    standins.cifar(tmp_path, 10, 5, 1)
    dtype = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I1\nt" + dtype + b"I00\nS'AAAAAAAA'\ntb"
    )
    content = b"(dS'data'\n" + array + b"sS'labels'\n(lI7\nas."
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match="an array is of type O8"):
        SOURCES["cifar10"].open(tmp_path)


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname", "", "."])
def test_a_table_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    standins.mufac(tmp_path, 8, 1, 1)
    standins.tiny_imagenet(tmp_path, 4, 1, 1)
    with (tmp_path / mufac.FOLDER / "custom_train_dataset.csv").open("a") as file:
        file.write(f'F9999,D,a,"{name}"\n')
    (tmp_path / "tiny-imagenet-200/val/val_annotations.txt").write_text(f"{name}\tn07873807\n")
    for source in ("mufac", "tiny_imagenet"):
        with pytest.raises(DataError, match="is not the name of a file"):
            SOURCES[source].open(tmp_path)


def test_imagenet_with_a_flat_val_is_refused(tmp_path: Path) -> None:
    standins.imagenet(tmp_path, 2, 1, 1)
    standins.write_jpeg(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 0, 0, (8, 8))
    with pytest.raises(DataError, match=r"val_00000001\.JPEG is outside the folder of a class"):
        SOURCES["image_folder"].open(tmp_path)


def test_hidden_folders_are_no_classes_and_empty_ones_are_refused(tmp_path: Path) -> None:
    standins.imagenet(tmp_path, 2, 1, 1)
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    assert len(SOURCES["image_folder"].open(tmp_path).classes) == 2
    (tmp_path / "train" / "n99999999").mkdir()
    with pytest.raises(DataError, match="n99999999 holds no image"):
        SOURCES["image_folder"].open(tmp_path)


def test_tiny_imagenet_reads_its_own_annotations(tmp_path: Path) -> None:
    standins.tiny_imagenet(tmp_path, 4, 1, 1)
    annotations = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    annotations.write_text("val_2.JPEG\tn07873807\t0\t0\t1\t1\n")
    images, samples = found("tiny_imagenet", tmp_path)
    assert [(s.sample_id, s.label) for s in samples[HELDOUT]] == [("val/images/val_2.JPEG", 0)]
    assert (images.classes[0], images.titles[0]) == ("n07873807", "pizza, pizza pie")
    annotations.write_text("val_2.JPEG\tn99999999\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match="names no class"):
        found("tiny_imagenet", tmp_path)


def copy_row(folder: Path, kind: str, line: int, to: str) -> None:
    """Add the image of a line of one MUFAC table to another table, under another name."""
    with (folder / f"custom_{kind}_dataset.csv").open() as file:
        row = list(csv.reader(file))[line]
    name = f"copy-of-{kind}-{row[3]}"
    shutil.copy(folder / f"{kind}_images" / row[3], folder / f"{to}_images" / name)
    with (folder / f"custom_{to}_dataset.csv").open("a") as file:
        file.write(",".join([*row[:3], name]) + "\n")


def test_mufac_keeps_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a held-out, a forgotten and a retained image: the training set loses three.

    24 training rows of which the first 10 are forgotten. The held-out copy is forgotten row 1, so
    9 are left to forget.
    """
    folder = tmp_path / mufac.FOLDER
    standins.mufac(tmp_path, 8, 3, 1)
    monkeypatch.setitem(mufac.FORGET_ROWS, mufac.FOLDER, 10)
    copy_row(folder, "train", 1, "test")  # leaks: leaves the training set
    copy_row(folder, "train", 2, "train")  # forgotten too: the retained copy goes
    copy_row(folder, "train", 24, "train")
    images, samples = found("mufac", tmp_path)
    ids = [sample.sample_id for sample in samples[TRAIN]]
    assert len(ids) == 23
    assert not any("copy-of" in sample_id for sample_id in ids)
    assert images.forget_ids == tuple(ids[:9])
    assert [s.sample_id for s in samples[HELDOUT]][-1].startswith("test/copy-of-train")
    assert images.notes == (
        "3 training and 0 held-out images left out: "
        "the same bytes are held out, forgotten or listed before",
    )
    made = prepare(SOURCES["mufac"], tmp_path / "prepared", tmp_path)
    assert made.notes == images.notes
    assert (made.directory / FORGET_IDS).read_text().split() == list(images.forget_ids)


def test_a_strange_age_is_refused_by_name(tmp_path: Path) -> None:
    standins.mufac(tmp_path, 8, 1, 1)
    table = tmp_path / mufac.FOLDER / "custom_val_dataset.csv"
    table.write_text(table.read_text().replace(",b,", ",bc,"))
    with pytest.raises(DataError, match=r"age_class 'bc' of F0001_AGE_D_1\.jpg"):
        SOURCES["mufac"].open(tmp_path)


def test_an_image_folder_need_not_have_a_held_out_part(tmp_path: Path) -> None:
    standins.synthetic(tmp_path, 2)
    images, samples = found("image_folder", tmp_path)
    assert images.classes == tuple(sorted(standins.CIFAR10_NAMES))
    assert (len(samples[TRAIN]), len(samples[HELDOUT])) == (20, 0)


def test_a_class_that_is_only_held_out_is_refused(tmp_path: Path) -> None:
    standins.imagenet(tmp_path, 2, 1, 1)
    standins.write_jpeg(tmp_path / "val" / "n99999999" / "x.JPEG", 0, 0, (8, 8))
    with pytest.raises(DataError, match="1 classes are in val and not in train: n99999999"):
        SOURCES["image_folder"].open(tmp_path)


def test_digits_are_those_of_scikit_learn() -> None:
    samples = SOURCES["digits"].open(None).index.to_pylist()
    assert [sample["label"] for sample in samples] == load_digits().target.tolist()
    assert len({sample["sample_id"] for sample in samples}) == 1797
    assert sum(sample["split"] == HELDOUT for sample in samples) == 362


def test_pixels_of_a_digit_by_hand() -> None:
    """The first row of the first scan is 0 0 5 13 9 1 0 0 of 16: times 255/16, rounded."""
    first = SOURCES["digits"].open(None).read("", 0, -1)
    pixels = np.asarray(Image.open(io.BytesIO(first)))
    assert pixels.shape == (8, 8)
    assert pixels[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(JobError) as caught:
        find("digit", "job.yaml:3 grid.datasets[0].source")
    assert caught.value.nearest == "digits"
    assert caught.value.where == "job.yaml:3 grid.datasets[0].source"


def test_imagenet_is_read_from_its_tars_by_wordnet_id(tmp_path: Path) -> None:
    """ILSVRC ids count from the other end: id 4 is the class of label 0."""
    standins.ilsvrc(tmp_path, 4, 2, 1)
    images, samples = found("imagenet", tmp_path)
    assert images.classes == ("n01440764", "n01440771", "n01440778", "n01440785")
    assert images.titles[1:3] == ("crane", "crane")
    assert images.titles[3] == "thing 3, object 3"
    assert [s.sample_id for s in samples[TRAIN]][:3] == [
        "train/n01440764/n01440764_0.JPEG",
        "train/n01440764/n01440764_1.JPEG",
        "train/n01440771/n01440771_0.JPEG",
    ]
    assert [(s.sample_id, s.label) for s in samples[HELDOUT]] == [
        (f"val/ILSVRC2012_val_{number + 1:08d}.JPEG", number) for number in range(4)
    ]
    assert samples[TRAIN][1].image == standins.jpeg(0, 1)


@pytest.mark.parametrize(
    ("file", "keep", "reason"),
    [
        ("ILSVRC2012_img_train.tar", 0.5, "the tar is cut off within|the tar cannot be read"),
        ("ILSVRC2012_img_val.tar", 0.5, "cut off within|cannot be read"),
        ("ILSVRC2012_img_val.tar", 0.0, "it holds 0 images, and|cannot be read"),
        ("ILSVRC2012_devkit_t12.tar.gz", 0.5, "the devkit cannot be read"),
    ],
)
def test_a_torn_tar_is_refused_by_name(tmp_path: Path, file: str, keep: float, reason: str) -> None:
    standins.ilsvrc(tmp_path, 4, 2, 2)
    path = tmp_path / file
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=reason) as raised:
        SOURCES["imagenet"].open(tmp_path)
    assert raised.value.where.startswith(str(path))
