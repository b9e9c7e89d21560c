"""Random crops and flips: by hand, against torchvision, and keyed by the sample alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import functional

from lotus_ray.base import seeds
from lotus_ray.unlearning.augment import crop_and_flip
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.gold import Gold
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles

FILL = torch.tensor([-1.0, -2.0, -3.0]).reshape(1, 3, 1, 1)
IMAGE = torch.arange(1.0, 10.0).reshape(1, 3, 3)
RGB = torch.cat([IMAGE, IMAGE + 10, IMAGE + 20])  # [3, 3, 3]: red is 1 2 3 / 4 5 6 / 7 8 9
# Red of the nine crops of a checkpoint of -1 around it, from the top left to the bottom right.
CROPS = [
    (-1, -1, -1, -1, 1, 2, -1, 4, 5),
    (-1, -1, -1, 1, 2, 3, 4, 5, 6),
    (-1, -1, -1, 2, 3, -1, 5, 6, -1),
    (-1, 1, 2, -1, 4, 5, -1, 7, 8),
    (1, 2, 3, 4, 5, 6, 7, 8, 9),
    (2, 3, -1, 5, 6, -1, 8, 9, -1),
    (-1, 4, 5, -1, 7, 8, -1, -1, -1),
    (4, 5, 6, 7, 8, 9, -1, -1, -1),
    (5, 6, -1, 8, 9, -1, -1, -1, -1),
]


def keys(count: int) -> Tensor:
    return seeds.sample_keys([f"s{number}" for number in range(count)])


def copies(count: int) -> Tensor:
    return RGB.expand(count, 3, 3, 3)


def counted(images: Tensor) -> Counter[tuple[float, ...]]:
    """Count the different images by their red pixels, row by row."""
    return Counter(tuple(image[0].flatten().tolist()) for image in images)


def test_every_crop_appears_as_often_as_any_other() -> None:
    """9,000 draws: 1,000 of each are expected, with a standard deviation below 30."""
    found = counted(crop_and_flip(copies(9000), keys(9000), 1, False, FILL, 0))
    assert set(found) == set(CROPS)
    assert all(abs(count - 1000) < 150 for count in found.values())


def test_the_other_colours_are_cropped_alike_and_filled_with_their_own_black() -> None:
    """Where red is p > 0, green is p + 10 and blue p + 20; outside they are -1, -2 and -3."""
    red, green, blue = crop_and_flip(copies(50), keys(50), 1, True, FILL, 0).unbind(1)
    outside = red < 0
    assert 0 < outside.sum() < outside.numel()
    assert torch.equal(green, torch.where(outside, -2.0, red + 10))
    assert torch.equal(blue, torch.where(outside, -3.0, red + 20))


def test_half_of_the_images_are_flipped_left_to_right() -> None:
    found = counted(crop_and_flip(copies(1000), keys(1000), 0, True, FILL, 0))
    assert set(found) == {(1, 2, 3, 4, 5, 6, 7, 8, 9), (3, 2, 1, 6, 5, 4, 9, 8, 7)}
    assert all(abs(count - 500) < 80 for count in found.values())


def test_a_flip_does_not_depend_on_the_crop() -> None:
    """None of the nine crops is the mirror image of another: 18 images, each 500 times."""
    found = counted(crop_and_flip(copies(9000), keys(9000), 1, True, FILL, 0))
    mirrored = [tuple(c[3 * row + 2 - col] for row in range(3) for col in range(3)) for c in CROPS]
    assert set(found) == {*CROPS, *mirrored}
    assert len(found) == 18
    assert all(abs(count - 500) < 120 for count in found.values())


def test_it_does_what_torchvision_does_with_the_same_draws() -> None:
    """Images of 5 by 7 pixels, so that rows are not taken for columns."""
    images = torch.rand(64, 3, 5, 7)
    found = crop_and_flip(images, keys(64), 2, True, torch.zeros(1, 3, 1, 1), 3)
    draws = seeds.uniform(keys(64), 3, 3)
    for image, augmented, (down, right, flip) in zip(images, found, draws.tolist(), strict=True):
        padded = functional.pad(image, [2, 2, 2, 2])
        expected = functional.crop(padded, int(down * 5), int(right * 5), 5, 7)
        expected = functional.hflip(expected) if flip < 0.5 else expected
        assert torch.equal(augmented, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_type_device_and_shape_are_kept(dtype: torch.dtype, device: str) -> None:
    images = torch.zeros(4, 3, 5, 7, dtype=dtype, device=device)
    fill = torch.zeros(1, 3, 1, 1)
    found = crop_and_flip(images, keys(4).to(device), 2, True, fill, 0)
    assert (found.dtype, found.device, found.shape) == (dtype, images.device, images.shape)


def test_without_crop_and_flip_it_is_the_very_same_tensor() -> None:
    images = copies(2)
    assert crop_and_flip(images, keys(2), 0, False, FILL, 0) is images


ROLES = make_roles("f" * 4 + "r" * 20 + "u" * 4 + "t" * 4, [i % 2 for i in range(32)], 2)
RECIPE = Original(epochs=3, lr=0.1, batch_size=7, crop_padding=1, flip=True)


def problem(workers: Workers | None = None, seed: int = 5) -> Problem:
    return make_problem(Linear(12, 2), make_dataset(blobs(32, 2), ROLES, workers, seed))


def by_row(method: Original | Gold, stage: Problem) -> list[dict[int, Tensor]]:
    """Return the image that training sees of each row, epoch by epoch."""
    return [
        {
            int(row): image
            for batch in phase.batches
            for row, image in zip(batch.rows, batch.images, strict=True)
        }
        for phase in method.phases(stage)
    ]


def alike(one: dict[int, Tensor], other: dict[int, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[row], other[row]) for row in one)


@pytest.mark.parametrize("size", [2, 3])
def test_a_sample_is_augmented_alike_on_any_number_of_workers(size: int) -> None:
    whole = by_row(RECIPE, problem())
    parts = [by_row(RECIPE, problem(Workers(rank=rank, size=size))) for rank in range(size)]
    for epoch, expected in enumerate(whole):
        merged = {row: image for part in parts for row, image in part[epoch].items()}
        assert alike(merged, expected)


def test_a_sample_is_augmented_alike_in_any_order_and_batch() -> None:
    other = Original(epochs=3, lr=0.1, batch_size=24, crop_padding=1, flip=True)
    pairs = zip(by_row(RECIPE, problem()), by_row(other, problem()), strict=True)
    assert all(alike(one, two) for one, two in pairs)


def test_epochs_and_seeds_draw_anew() -> None:
    """The gold standard draws as the original does, and with a training seed otherwise."""
    first, second, _ = by_row(RECIPE, problem())
    assert not alike(first, second)
    assert not alike(first, by_row(RECIPE, problem(seed=6))[0])
    settings = {"epochs": 1, "lr": 0.1, "batch_size": 7, "crop_padding": 1, "flip": True}
    (gold,) = by_row(Gold(**settings), problem())  # type: ignore[arg-type]
    (other,) = by_row(Gold(**settings, training_seed=1), problem())  # type: ignore[arg-type]
    assert alike(gold, {row: first[row] for row in gold})
    assert not alike(gold, other)


def test_outside_of_an_image_it_is_black_as_normalised() -> None:
    """Pixels are p / 255, so black is 0; of a 2 by 2 image a corner crop keeps one pixel."""
    (seen, *_) = by_row(RECIPE, problem())
    raw = {
        int(row): image
        for batch in problem().retain
        for row, image in zip(batch.rows, batch.images, strict=True)
    }
    assert all(bool((raw[row] > 0).all()) for row in raw)
    kept = {int((seen[row][0] > 0).sum()) for row in raw}
    assert kept == {1, 2, 4}


def test_training_is_augmented_and_evaluation_is_not() -> None:
    """What the model sees in eval mode are the images as they are."""
    stage = problem()
    seen: dict[bool, list[Tensor]] = {True: [], False: []}

    def watch(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[module.training].extend(arguments[0])

    stage.model.register_forward_pre_hook(watch)
    recipe = Original(epochs=2, lr=0.1, batch_size=7, crop_padding=1, flip=True, patience=5)
    unlearn(recipe, stage)
    raw = [
        image
        for split in (stage.forget, stage.retain, stage.unseen)
        for b in split
        for image in b.images
    ]

    def is_raw(image: Tensor) -> bool:
        return any(torch.equal(image, other) for other in raw)

    assert len(seen[False]) == 2 * 4
    assert all(is_raw(image) for image in seen[False])
    assert len(seen[True]) == 2 * 24
    assert sum(is_raw(image) for image in seen[True]) < 24


def test_without_augmentation_a_recipe_takes_the_batches_as_they_are() -> None:
    plain = by_row(Original(epochs=1, batch_size=7), problem())[0]
    raw = {
        int(row): image
        for split in (problem().forget, problem().retain)
        for b in split
        for row, image in zip(b.rows, b.images, strict=True)
    }
    assert alike(plain, raw)
