"""Small stand-ins for the paper's data sets: their layout, image size and classes, made-up images.

Each image shows the colour of its class under noise, so that a network can learn something.
"""

from __future__ import annotations

import csv
import io
import pickle
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def picture(label: int, number: int, size: tuple[int, int]) -> np.ndarray:
    """Return an image [H, W, 3], uint8, of a class."""
    width, height = size
    colour = np.random.default_rng(label).integers(40, 216, 3)
    noise = np.random.default_rng((label, number)).integers(-40, 41, (height, width, 3))
    return (colour + noise).clip(0, 255).astype(np.uint8)


def write_jpeg(path: Path, label: int, number: int, size: tuple[int, int]) -> None:
    """Write an image of a class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(label, number, size)).save(path, format="JPEG")


def cifar(root: Path, classes: int, train: int, heldout: int) -> None:
    """Write CIFAR-10 or CIFAR-100 (by the number of classes) with so many images a class."""
    fine = classes == 100
    folder = root / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    names = {True: CIFAR100_NAMES, False: CIFAR10_NAMES}[fine]
    key = "fine_label_names" if fine else "label_names"
    _dump(folder / ("meta" if fine else "batches.meta"), {key: names})
    files = ["train"] if fine else [f"data_batch_{n}" for n in range(1, 6)]
    for file, part in zip(files, np.array_split(np.arange(train), len(files)), strict=True):
        _dump(folder / file, _batch(fine, classes, part.tolist()))
    last = "test" if fine else "test_batch"
    _dump(folder / last, _batch(fine, classes, list(range(train, train + heldout))))


def _batch(fine: bool, classes: int, numbers: list[int]) -> dict[str, object]:
    pairs = [(label, number) for number in numbers for label in range(classes)]
    images = [picture(*pair, (32, 32)).transpose(2, 0, 1).reshape(-1) for pair in pairs]
    data = np.stack(images) if images else np.empty((0, 3072), dtype=np.uint8)
    return {"data": data, "fine_labels" if fine else "labels": [label for label, _ in pairs]}


def _dump(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def tiny_imagenet(root: Path, classes: int, train: int, heldout: int) -> None:
    """Write Tiny-ImageNet; the first class in its list is pizza."""
    folder = root / "tiny-imagenet-200"
    folder.mkdir(parents=True)
    wnids = ["n07873807", *(f"n{10_000_000 + number}" for number in range(1, classes))]
    (folder / "wnids.txt").write_text("\n".join(wnids) + "\n")
    titles = {"n07873807": "pizza, pizza pie"}
    words = [f"{wnid}\t{titles.get(wnid, f'thing {wnid}')}" for wnid in [*wnids, "n00000001"]]
    (folder / "words.txt").write_text("\n".join(words) + "\n")
    for label, wnid in enumerate(wnids):
        for number in range(train):
            path = folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            write_jpeg(path, label, number, (64, 64))
    lines = []
    for number in range(heldout * classes):
        label = number % classes
        write_jpeg(folder / f"val/images/val_{number}.JPEG", label, train + number, (64, 64))
        lines.append(f"val_{number}.JPEG\t{wnids[label]}\t0\t32\t44\t62")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")


def mufac(root: Path, classes: int, train: int, heldout: int) -> None:
    """Write MUFAC. Two of its images have copies: in its test set, and in its retain set."""
    folder = root / "custom_korean_family_dataset_resolution_128"
    numbers = {"train": range(train), "val": range(train, train + heldout)}
    numbers["test"] = range(train + heldout, train + 2 * heldout)
    for kind, chosen in numbers.items():
        rows = []
        for number in chosen:
            for label in range(classes):
                name = f"F{number:04d}_AGE_D_{label}.jpg"
                write_jpeg(folder / f"{kind}_images" / name, label, number, (128, 128))
                rows.append([f"F{number:04d}", "D", "abcdefgh"[label], name])
        with (folder / f"custom_{kind}_dataset.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["family_id", "person_id", "age_class", "image_path"])
            writer.writerows(rows)


def imagenet(root: Path, classes: int, train: int, heldout: int) -> None:
    """Write unpacked ImageNet: train/<wnid> and val/<wnid>, photographs of several shapes."""
    for label in range(classes):
        wnid = f"n{1_440_764 + label:08d}"
        for number in range(train + heldout):
            kind = "train" if number < train else "val"
            path = root / kind / wnid / f"{wnid}_{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(label, number))


def ilsvrc(root: Path, classes: int, train: int, heldout: int) -> None:
    """Write ImageNet's three tar files; the second and the third class are both called crane."""
    root.mkdir(parents=True, exist_ok=True)
    wnids = [f"n{1_440_764 + 7 * label:08d}" for label in range(classes)]
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as outer:
        for label, wnid in enumerate(wnids):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number in range(train):
                    _add(tar, f"{wnid}_{number}.JPEG", jpeg(label, number))
            _add(outer, f"{wnid}.tar", inner.getvalue())
    # ILSVRC ids are not in the order of WordNet ids: they count from the other end here.
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        for number in range(heldout * classes):
            name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
            _add(tar, name, jpeg(number % classes, train + number // classes))
    truth = "".join(f"{classes - number % classes}\n" for number in range(heldout * classes))
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        _add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", _meta(wnids))
        name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
        _add(tar, name, truth.encode())


def _meta(wnids: list[str]) -> bytes:
    """Return meta.mat: the classes, and one that is above them."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = np.empty(len(wnids) + 1, dtype=fields)
    for label, wnid in enumerate(wnids):
        words = "crane" if label in (1, 2) else f"thing {label}, object {label}"
        rows[label] = (len(wnids) - label, wnid, words, 0)
    rows[-1] = (len(wnids) + 1, "n00001740", "entity", len(wnids))
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": rows[:, None]})
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def jpeg(label: int, number: int) -> bytes:
    """Return a photograph of a class, 250×230 or 230×260; a comment makes its bytes its own."""
    comment = f"photograph {number}".encode()
    head = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    content = _photograph(label, number % 2)
    return content[:2] + head + content[2:]


@cache
def _photograph(label: int, shape: int) -> bytes:
    buffer = io.BytesIO()
    size = ((250, 230), (230, 260))[shape]
    Image.fromarray(picture(label, shape, size)).save(buffer, format="JPEG")
    return buffer.getvalue()


def synthetic(root: Path, per_class: int) -> None:
    """Write a calibration set for CIFAR-10: a folder of images a class, without a held-out part."""
    for label, name in enumerate(CIFAR10_NAMES):
        for number in range(per_class):
            path = root / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            Image.fromarray(picture(label, 1000 + number, (32, 32))).save(buffer, format="PNG")
            path.write_bytes(buffer.getvalue())


CIFAR10_NAMES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
CIFAR100_NAMES = ["apple", "beaver", "rocket", *(f"class {number}" for number in range(3, 100))]
STANDINS: dict[str, Callable[[Path, int, int], None]] = {
    "cifar10": lambda root, train, heldout: cifar(root, 10, train, heldout),
    "cifar100": lambda root, train, heldout: cifar(root, 100, train, heldout),
    "tiny_imagenet": lambda root, train, heldout: tiny_imagenet(root, 200, train, heldout),
    "mufac": lambda root, train, heldout: mufac(root, 8, train, heldout),
    "imagenet": lambda root, train, heldout: ilsvrc(root, 1000, train, heldout),
}
