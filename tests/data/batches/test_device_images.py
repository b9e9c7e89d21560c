"""Images on the way to a device. No GPU: the device is the CPU, where the same code runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lotus_ray.base.roles import RETAIN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.device_images import DeviceImages, one_ahead
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.unlearning.contract import Batch, Workers
from tests.toy import table

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(5).integers(0, 256, (23, 3, 8, 8), np.uint8)
ALL = IMAGES.nbytes


def batches(budget: int | None) -> list[Batch]:
    """Return an epoch and a pass, of images on a device with such a budget; None: on no device."""
    transform = Transform(8, mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4))
    pixels = Pixels.of(IMAGES)
    made = ImageDataset(pixels, table("r" * 23), transform, 7, CPU, torch.float32, Workers())
    if budget is not None:
        made.__dict__["_on_device"] = DeviceImages(pixels, CPU, budget)
    retain = made.split(RETAIN)
    return [*retain.shuffled(5, "epoch", 1), *retain]


@pytest.mark.parametrize(("budget", "are_resident"), [(ALL, True), (ALL - 1, False)])
def test_batches_are_the_same_bits_wherever_the_images_wait(
    budget: int, are_resident: bool
) -> None:
    assert DeviceImages(Pixels.of(IMAGES), CPU, budget).are_resident is are_resident
    for ours, plain in zip(batches(budget), batches(None), strict=True):
        assert torch.equal(ours.images, plain.images)
        assert torch.equal(ours.rows, plain.rows)


def test_images_that_are_not_all_decoded_are_not_taken_to_the_device() -> None:
    block = np.zeros(23, np.int64)
    block[4] = -1
    some = Pixels([IMAGES], block, np.arange(23), (3, 8, 8))
    assert not DeviceImages(some, CPU, 10 * ALL).are_resident


def test_a_large_set_goes_to_the_device_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """23 images in parts of 10: none is left out, none stands twice."""
    monkeypatch.setattr("lotus_ray.data.batches.device_images.FILL_ROWS", 10)
    device = DeviceImages(Pixels.of(IMAGES), CPU, ALL)
    (found,) = device.along([np.arange(23)], None)
    assert np.array_equal(found.numpy(), IMAGES)


def test_the_next_value_is_made_while_one_is_used_and_no_more() -> None:
    made: list[int] = []
    threads: set[int] = set()
    second = threading.Event()

    def values() -> Iterator[int]:
        for value in range(5):
            threads.add(threading.get_ident())
            made.append(value)
            if value == 1:
                second.set()
            yield value

    ahead = one_ahead(values())
    assert next(ahead) == 0
    assert second.wait(10)
    assert made == [0, 1]
    assert list(ahead) == [1, 2, 3, 4]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_comes_when_its_value_is_due_and_a_stopped_walk_leaves_no_thread() -> None:
    def values() -> Iterator[int]:
        yield 0
        raise ValueError("a torn image")

    before = threading.active_count()
    ahead = one_ahead(values())
    assert next(ahead) == 0
    with pytest.raises(ValueError, match="a torn image"):
        next(ahead)
    ahead = one_ahead(iter([1, 2, 3]))
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
