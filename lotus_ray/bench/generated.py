"""Generated images and a network for them: what the benchmarks of compute run on.

Nothing here needs Ray or pydantic: it runs where torch does.
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

NOISE = 40  # of 255 levels, either way, around the image of a class


@dataclass(frozen=True)
class Sizes:
    """How much there is: images of each role a class, the network, and the global batch.

    `unique` are the images that really exist, where fewer than there are samples; a sample's
    image is copied and normalised all the same.
    """

    model: str
    options: dict[str, object]
    img_size: int
    classes: int
    forget: int
    retain: int
    unseen: int
    test: int
    batch_size: int
    unique: int | None = None

    @property
    def spec(self) -> ModelSpec:
        """Return the network."""
        return ModelSpec(self.model, self.classes, options=dict(self.options))

    @property
    def samples(self) -> int:
        """Return how many samples there are, over all roles."""
        return self.classes * (self.forget + self.retain + self.unseen + self.test)


@dataclass
class Stage:
    """What problems share: samples, an original, and those of its logits that are computed."""

    sizes: Sizes
    dataset: ImageDataset
    original: nn.Module  # frozen, in eval mode
    random: nn.Module  # likewise
    logits: LogitsCache = field(init=False)  # of the original

    def __post_init__(self) -> None:
        self.logits = self._logits()

    def compute_logits(self) -> Stage:
        """Compute the original's logits on every sample, which a group does once for its cells."""
        self.logits.compute_missing(self.dataset.split(*ROLES))
        return self

    def bare(self) -> nn.Module:
        """Return a copy of the original that can be trained, with nothing of ours around it."""
        return copy.deepcopy(self.original).requires_grad_(True)

    def problem(self, forwards: ForwardCounter) -> Problem:
        """Return a problem that starts from the original, its forwards counted as in a group."""
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

    def _logits(self) -> LogitsCache:
        rows, workers = len(self.dataset.roles), self.dataset.workers
        return LogitsCache(self.original, rows, self.sizes.classes, workers)


def build(
    sizes: Sizes,
    device: torch.device,
    workers: Workers | None = None,
    precision: str = "fp32",
    seed: int = 0,
) -> Stage:
    """Build a stage whose original is untrained.

    Args:
        sizes: how much of everything.
        device: where the networks are.
        workers: who share the samples; the default is one alone.
        precision: an entry of PRECISIONS.
        seed: of images, weights and orders.
    """
    use_precision(precision, device)
    transform = Transform(sizes.img_size)
    dataset = ImageDataset(
        _pixels(sizes, seed),
        _roles(sizes),
        transform,
        seed,
        device,
        PRECISIONS[precision].dtype,
        workers or Workers(),
    )
    original, random = (
        prepare(models.build(sizes.spec, seed, name), precision, device).requires_grad_(False)
        for name in ("initial weights", "random weights")
    )
    return Stage(sizes, dataset, original, random)


def _roles(sizes: Sizes) -> Roles:
    """Return the table: sample i shows class i mod C; the roles follow one another."""
    counts = dict(zip(ROLES, (sizes.forget, sizes.retain, sizes.unseen, sizes.test), strict=True))
    assert list(counts) == [FORGET, RETAIN, UNSEEN, TEST]
    played = [np.full(sizes.classes * n, STORED.index(role), np.int8) for role, n in counts.items()]
    return Roles(
        [f"s{row:08d}" for row in range(sizes.samples)],
        np.arange(sizes.samples, dtype=np.int64) % sizes.classes,
        np.concatenate(played),
        sizes.classes,
    )


def _pixels(sizes: Sizes, seed: int) -> Pixels:
    """Return the images: one of random pixels for each class, and noise of every sample's own."""
    random = np.random.default_rng(seed)
    shape = (3, sizes.img_size, sizes.img_size)
    unique = min(sizes.unique or sizes.samples, sizes.samples)
    unique -= unique % sizes.classes  # so that a sample's image is one of its class
    images = np.empty((unique, *shape), np.uint8)
    centres = random.integers(NOISE, 256 - NOISE, (sizes.classes, *shape), np.uint8)
    for row, image in enumerate(images):
        noise = random.integers(0, 2 * NOISE, shape, np.uint8)
        np.add(centres[row % sizes.classes] - NOISE, noise, out=image)
    rows = np.arange(sizes.samples)
    return Pixels([images], np.zeros_like(rows), rows % unique, shape)
