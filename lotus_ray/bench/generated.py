"""Generated images and a network for them, for the benchmarks of compute.

Needs neither Ray nor pydantic: it also runs on a machine with only torch.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from lotus_ray import models
from lotus_ray.base.roles import FORGET, RETAIN, ROLES, STORED, TEST, UNSEEN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.problem import make_problem
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles
from lotus_ray.models import ModelSpec
from lotus_ray.models.precision import PRECISIONS, prepare, use_precision
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.problem import Problem

NOISE = 40  # levels of 255, up or down, around the image of a class


@dataclass(frozen=True)
class Sizes:
    """Sizes of a generated problem."""

    model: str
    options: dict[str, object]  # of the model
    img_size: int  # pixels
    classes: int
    forget: int  # images per class, as the next three
    retain: int
    unseen: int
    test: int
    batch_size: int  # rows of a global batch
    unique: int | None = None  # different images in memory, shared by samples; None: one each

    @property
    def spec(self) -> ModelSpec:
        """The network."""
        return ModelSpec(self.model, self.classes, options=dict(self.options))

    @property
    def samples(self) -> int:
        """Number of samples over all roles."""
        return self.classes * (self.forget + self.retain + self.unseen + self.test)


@dataclass
class Stage:
    """The parts that the problems of one benchmark share: samples, an original and its logits."""

    sizes: Sizes
    dataset: ImageDataset
    original: nn.Module  # frozen, in eval mode
    random: nn.Module  # frozen, in eval mode
    logits: LogitsCache = field(init=False)  # of the original

    def __post_init__(self) -> None:
        rows, workers = len(self.dataset.roles), self.dataset.workers
        self.logits = LogitsCache(self.original, rows, self.sizes.classes, workers)

    def compute_logits(self) -> Stage:
        """Compute the original's logits on every sample, once, as a group does."""
        self.logits.compute_missing(self.dataset.split(*ROLES))
        return self

    def bare(self) -> nn.Module:
        """Return a copy of the original that can be trained."""
        return copy.deepcopy(self.original).requires_grad_(True)

    def problem(self, forwards: ForwardCounter) -> Problem:
        """Return a problem that starts from the original, as in a group.

        Args:
            forwards: counts the forwards.
        """
        return make_problem(
            self.dataset,
            self.bare(),
            self.original,
            batch_size=self.sizes.batch_size,
            forwards=forwards,
            initial_model=lambda seed: self.bare(),
            random_model=lambda: self.random,
            cached_logits=self.logits,
        )


def build(
    sizes: Sizes,
    device: torch.device,
    workers: Workers | None = None,
    precision: str = "fp32",
    seed: int = 0,
) -> Stage:
    """Build a stage whose original is untrained.

    Args:
        sizes: of the problem.
        device: of networks and images.
        workers: share the samples; default one.
        precision: a name in PRECISIONS.
        seed: of images, weights and orders.
    """
    use_precision(precision, device)
    original, random = (
        prepare(models.build(sizes.spec, seed, name), precision, device).requires_grad_(False)
        for name in ("initial weights", "random weights")
    )
    dataset = generate(sizes, device, workers, precision, seed)
    return Stage(sizes, dataset, original, random)


def generate(
    sizes: Sizes,
    device: torch.device,
    workers: Workers | None = None,
    precision: str = "fp32",
    seed: int = 0,
    noise: int = NOISE,
) -> ImageDataset:
    """Generate the samples of a stage.

    Args:
        sizes: of the problem.
        device: as the next three, see `build`.
        workers: share the samples.
        precision: of images.
        seed: of images and orders.
        noise: levels of 255 by which images differ from that of their class; at most 127.
    """
    return ImageDataset(
        _pixels(sizes, seed, noise),
        _roles(sizes),
        Transform(sizes.img_size),
        seed,
        device,
        PRECISIONS[precision].dtype,
        workers or Workers(),
    )


def _roles(sizes: Sizes) -> Roles:
    """Return a table of roles, one role after another; sample i has class i mod C."""
    counts = dict(zip(ROLES, (sizes.forget, sizes.retain, sizes.unseen, sizes.test), strict=True))
    assert list(counts) == [FORGET, RETAIN, UNSEEN, TEST]
    roles = [np.full(sizes.classes * n, STORED.index(role), np.int8) for role, n in counts.items()]
    return Roles(
        [f"s{row:08d}" for row in range(sizes.samples)],
        np.arange(sizes.samples, dtype=np.int64) % sizes.classes,
        np.concatenate(roles),
        sizes.classes,
    )


def _pixels(sizes: Sizes, seed: int, noise: int) -> Pixels:
    """Return the images: random pixels for each class, plus noise for each image."""
    random = np.random.default_rng(seed)
    shape = (3, sizes.img_size, sizes.img_size)
    unique = min(sizes.unique or sizes.samples, sizes.samples)
    unique -= unique % sizes.classes  # so that the image of a sample is of its class
    images = np.empty((unique, *shape), np.uint8)
    centres = random.integers(noise, 256 - noise, (sizes.classes, *shape), np.uint8)
    for row, image in enumerate(images):
        levels = random.integers(0, 2 * noise, shape, np.uint8)
        np.add(centres[row % sizes.classes] - noise, levels, out=image)
    rows = np.arange(sizes.samples)
    return Pixels([images], np.zeros_like(rows), rows % unique, shape)
