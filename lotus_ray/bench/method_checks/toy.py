"""A problem small enough to follow by hand, on one worker or several."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lotus_ray.base.roles import CALIBRATION, FORGET, OTHER_TRAIN, RETAIN, ROLES, STORED, UNSEEN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles
from lotus_ray.models.layout import blocks_of, head_of
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.problem import Problem

# Pixels p become p/255 − 0 over 1: a white pixel is 1 and a black one is 0.
PLAIN = Transform(img_size=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def make_roles(roles: str, labels: list[int], num_classes: int) -> Roles:
    """Build a table from letters: f(orget), r(etain), u(nseen), t(est), c(alibration)."""
    places = {role[0]: STORED.index(role) for role in (*ROLES, CALIBRATION)}
    return Roles(
        sample_ids=[f"s{place:03d}" for place in range(len(labels))],
        labels=np.array(labels, dtype=np.int64),
        roles=np.array([places[letter] for letter in roles], dtype=np.int8),
        num_classes=num_classes,
    )


def make_dataset(
    pixels: Tensor,
    roles: Roles,
    workers: Workers | None = None,
    seed: int = 0,
    transform: Transform = PLAIN,
    dtype: torch.dtype = torch.float64,
) -> ImageDataset:
    """Build a image dataset on the CPU."""
    device = torch.device("cpu")
    images = Pixels.of(pixels.numpy())
    return ImageDataset(images, roles, transform, seed, device, dtype, workers or Workers())


def make_problem(
    model: nn.Module,
    dataset: ImageDataset,
    batch_size: int = 100,
    initial_model: Callable[[int], nn.Module] | None = None,
) -> Problem:
    """Build a problem that starts from `model` as the original."""
    model = copy.deepcopy(model).to(dataset.dtype)
    original = copy.deepcopy(model).eval().requires_grad_(False)
    return Problem(
        model=copy.deepcopy(model),
        original=original,
        forget=dataset.split(FORGET),
        retain=dataset.split(RETAIN),
        other_train=dataset.split(OTHER_TRAIN),
        unseen=dataset.split(UNSEEN),
        calibration=dataset.split(CALIBRATION) or dataset.split(UNSEEN),
        num_classes=dataset.roles.num_classes,
        head=head_of(model),
        blocks=blocks_of(model),
        num_rows=len(dataset.roles),
        batch_size=batch_size,
        seed=dataset.seed,
        device=dataset.device,
        image_shape=dataset.pixels.shape,
        pixel_range=dataset.pixel_range,
        initial_model=initial_model or (lambda seed: copy.deepcopy(model)),
        random_model=lambda: _perturbed(model),
        workers=dataset.workers,
    )


def _perturbed(model: nn.Module) -> nn.Module:
    """Return a copy with other random weights, frozen: the bad teacher."""
    torch.manual_seed(123)
    other = copy.deepcopy(model).eval().requires_grad_(False)
    for value in other.parameters():
        value.copy_(torch.randn_like(value) * 0.5)
    return other


def blobs(count: int, classes: int, seed: int = 0, noise: int = 30) -> Tensor:
    """Return noisy 2×2 images, uint8 [count, 3, 2, 2]; sample i shows class i mod classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randint(40, 216, (classes, 3, 2, 2), generator=generator)
    spread = torch.randint(-noise, noise + 1, (count, 3, 2, 2), generator=generator)
    return (centres[torch.arange(count) % classes] + spread).clamp(0, 255).to(torch.uint8)
