"""Small stand-ins for the paper's data sets: their layout, image size and classes, made-up images.

Each image shows the colour of its class under noise, so that a network can learn something.
"""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


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
            write_jpeg(path, label, number, ((250, 230), (230, 260))[number % 2])


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
    "image_folder": lambda root, train, heldout: imagenet(root, 1000, train, heldout),
}
