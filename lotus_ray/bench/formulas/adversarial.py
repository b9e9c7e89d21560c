"""Formula of AMUN: one image after the other is moved until the original errs."""

from __future__ import annotations

import math
from itertools import count, pairwise, takewhile
from typing import Any

import torch
from torch import Tensor

from lotus_ray.base import seeds
from lotus_ray.bench.formulas.linear import Weights, gradient, label_slopes, logits, start
from lotus_ray.bench.formulas.optimizers import Sgd
from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.problem import Problem

Example = tuple[Tensor, int, int]  # image, its new label, key of its sample


def amun(method: Any, problem: Problem) -> Weights:
    """Train on D_r ∪ D_f and an example for each image of D_f; lr falls to a tenth each time."""
    weights, sgd = start(problem), Sgd.of(method)
    examples = _examples(method, problem)
    for epoch in range(method.epochs):
        sgd.lr = method.lr / 10 ** (epoch // method.decay_every)
        for batch, chosen in _batches(problem, examples, epoch):
            images = torch.cat([batch.images, *(image for image, _, _ in chosen)])
            added = torch.tensor([label for _, label, _ in chosen], dtype=torch.int64)
            labels = torch.cat([batch.labels, added])
            slopes = label_slopes(weights, images, labels)
            weights = sgd.step(weights, gradient(slopes, images))
    return weights


def _batches(
    problem: Problem, examples: list[Example], epoch: int
) -> list[tuple[Batch, list[Example]]]:
    """Return the batches of both sets, the examples spread evenly over them."""
    samples, size = problem.forget.union(problem.retain), problem.batch_size
    steps = math.ceil((len(samples) + len(examples)) / size)
    batches = list(samples.shuffled(math.ceil(len(samples) / steps), "amun", epoch))
    keys = torch.tensor([key for _, _, key in examples])
    draws = seeds.scores(keys, problem.seed, "amun", "examples", epoch).tolist()
    order = [examples[index] for index in sorted(range(len(examples)), key=draws.__getitem__)]
    starts = [len(order) * step // len(batches) for step in range(len(batches) + 1)]
    parts = [order[first:last] for first, last in pairwise(starts)]
    return list(zip(batches, parts, strict=True))


def _examples(method: Any, problem: Problem) -> list[Example]:
    """Return an example for each image of D_f that can be turned, in their order."""
    original, found = start(problem), []
    for batch in problem.forget:
        for image, label, key in zip(batch.images, batch.labels, batch.keys, strict=True):
            search = _Search(method, problem, original, image[None], int(label))
            other, answer = search.run()
            if answer != int(label):
                found.append((other, answer, int(key)))
    return found


class _Search:
    """PGD from one image [1, 3, H, W], on pixels in 0 … 1."""

    def __init__(
        self, method: Any, problem: Problem, weights: Weights, image: Tensor, label: int
    ) -> None:
        self.method, self.weights, self.label = method, weights, label
        self.low, high = problem.pixel_range
        self.range = high - self.low
        self.start = (image - self.low) / self.range

    def run(self) -> tuple[Tensor, int]:
        """Return the image at which the search ends, and the answer there."""
        farthest = self.start.numel() ** 0.5
        doubled = (self.method.radius * 2**turn for turn in count())
        radii = [next(doubled), *takewhile(lambda radius: radius < 2 * farthest, doubled)]
        pixels = self.start
        for radius in radii:
            for _ in range(self.method.attack_steps):
                if self._answer(pixels) != self.label:
                    return self._image(pixels), self._answer(pixels)
                pixels = self._step(pixels, radius)
        return self._image(pixels), self._answer(pixels)

    def _image(self, pixels: Tensor) -> Tensor:
        return self.low + pixels * self.range

    def _answer(self, pixels: Tensor) -> int:
        return int(logits(self.weights, self._image(pixels)).argmax())

    def _step(self, pixels: Tensor, radius: float) -> Tensor:
        """Return pixels a tenth of the radius uphill, back in the ball and in 0 … 1."""
        slopes = label_slopes(self.weights, self._image(pixels), torch.tensor([self.label]))
        uphill = (slopes @ self.weights[0]).view_as(pixels) * self.range
        shift = pixels + radius / 10 * uphill / uphill.norm() - self.start
        shift = shift * min(1.0, radius / float(shift.norm()))
        moved: Tensor = (self.start + shift).clamp(0, 1)
        return moved
