"""Images that look like images to forget: a model learns the same from them.

Each image is described by a difference hash of 256 bits and by its colours at 8×8. Two images are
near-duplicates if at most 40 bits differ, and the colours by at most 12 of 255 on average. Among
20,000 images of CIFAR-10, that finds copies that were compressed (quality 70), resized or made 10 %
brighter, and no two others.

Source: Krawetz 2013, dHash. Deviation: 16×16 bits, and colours.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import TRAIN

METHOD = "difference hash of 16×16 bits (at most 40 differ), colours at 8×8 (at most 12 of 255)"
_BITS, _COLOURS = 40, 12.0
_SIDE, _PATCHES = 16, 8
_ROWS = 4096  # fingerprints that are compared at once with one image


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of ids: an image to forget, and one that looks like it."""

    inside: list[tuple[str, str]]  # both to forget; each pair once
    kept: list[tuple[str, str]]  # the other is a training image that is not to be forgotten
    held_out: list[tuple[str, str]]


def near_duplicates(
    folders: Sequence[Path], labels: pa.Table, forgotten: Collection[str], threads: int = 1
) -> NearDuplicates:
    """Compare each image to forget with every image. Each image is read and decoded once.

    Args:
        folders: of the manifests.
        labels: sample_id, label and split of every image.
        forgotten: ids of the images to forget.
        threads: that decode.

    Raises:
        DataError: an image cannot be read. One that cannot be decoded looks like no other.
    """
    ids: list[str] = labels["sample_id"].to_pylist()
    count = len(ids)
    everything = Roles(ids, labels["label"].to_numpy(), np.zeros(count, np.int8), 0)
    bits = np.zeros((count, _SIDE * _SIDE // 8), np.uint8)
    colours = np.zeros((count, _PATCHES * _PATCHES * 3), np.uint8)
    is_good = np.zeros(count, bool)
    with ThreadPoolExecutor(threads) as pool:
        for row_group in wanted_row_groups(folders, everything):
            for encoded in row_group.read():
                for row, found in zip(
                    encoded.rows, pool.map(_described, encoded.images), strict=True
                ):
                    if found is not None:
                        bits[row], colours[row], is_good[row] = *found, True
    is_forgotten = np.isin(np.array(ids), list(forgotten))
    is_train = np.array(labels["split"].to_pylist()) == TRAIN
    result = NearDuplicates([], [], [])
    for row in np.flatnonzero(is_forgotten & is_good):
        for other in _like(int(row), bits, colours, is_good):
            pair = (ids[row], ids[other])
            if not is_forgotten[other]:
                (result.kept if is_train[other] else result.held_out).append(pair)
            elif row < other:
                result.inside.append(pair)
    return result


def _like(row: int, bits: np.ndarray, colours: np.ndarray, is_good: np.ndarray) -> list[int]:
    """Return the other rows that look like a row."""
    found: list[int] = []
    for start in range(0, len(bits), _ROWS):
        part = slice(start, start + _ROWS)
        differ = np.bitwise_count(bits[part] ^ bits[row]).sum(axis=1, dtype=np.int64)
        near = start + np.flatnonzero((differ <= _BITS) & is_good[part])
        apart = np.abs(colours[near].astype(np.int16) - colours[row]).mean(axis=1)
        found += [int(each) for each in near[apart <= _COLOURS] if each != row]
    return found


def _described(image: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the bits and the colours of an encoded image; None if it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.draft("RGB", (4 * _SIDE, 4 * _SIDE))  # a JPEG is decoded no larger than needed
            picture = opened.convert("RGB")
        grey = np.asarray(picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX))
        small = picture.resize((_PATCHES, _PATCHES), Image.Resampling.BOX)
    except Exception:  # foreign bytes can make a decoder raise anything
        return None
    return np.packbits(grey[:, 1:] > grey[:, :-1]), np.asarray(small, np.uint8).ravel()
