"""The nearest adversarial examples of the forget set, by projected gradient ascent in L2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.problem import Problem

STEPS_A_RADIUS = 10  # a step is a tenth of the radius, as by the authors
SMALLEST_NORM = 1e-10  # of a gradient that is normalised


@dataclass(frozen=True)
class Examples:
    """Adversarial examples, in the order of the rows of their images; the same on every worker."""

    images: Tensor  # [n, 3, H, W], normalised
    labels: Tensor  # [n], int64: what the original takes them for
    keys: Tensor  # [n], int64: of the samples that they were made of

    def __len__(self) -> int:
        return len(self.labels)


def nearest_examples(problem: Problem, radius: float, steps: int) -> Examples:
    """Find, for each forget image, a near image that the original does not give its label.

    An image that the original gets wrong is its own example. For the others, pixels p in 0 … 1
    move by r/10 along the normalised gradient of CE, and are projected to ‖p − p₀‖₂ ≤ r and to
    0 … 1, until the original errs. After `steps` of them r doubles, and the search goes on from
    where it is; the last r is the first that reaches from any image to any other.

    Args:
        problem: its original is attacked. Every worker must call this.
        radius: the first r.
        steps: PGD steps for each r.

    Returns:
        At most one example for each forget image.

    Source: Ebrahimpour-Boroojeny et al. 2025 (AMUN), their code. Deviation: the search has an end.
    """
    problem.original_logits.compute_missing(problem.forget)
    size = max(problem.batch_size // problem.workers.size, 1)  # of a step
    parts = []
    for batch in problem.forget:
        labels = problem.original_logits(batch).argmax(dim=1)
        images = batch.images.clone()

        def attack(
            right: Tensor, batch: Batch = batch, images: Tensor = images, labels: Tensor = labels
        ) -> None:
            search = _Attack(
                problem.original, problem.pixel_range, batch.images[right], batch.labels[right]
            )
            images[right], labels[right] = search.run(radius, steps)

        problem.micro_batch.each((labels == batch.labels).nonzero()[:, 0], size, attack)
        wrong = labels != batch.labels
        parts.append((batch.rows[wrong], images[wrong], labels[wrong], batch.keys[wrong]))
    empty = torch.zeros(0, dtype=torch.int64, device=problem.device)
    like = next(problem.original.parameters())
    parts.append((empty, like.new_zeros(0, *problem.image_shape), empty, empty))
    own = [torch.cat(part) for part in zip(*parts, strict=True)]
    _, *found = problem.workers.gather(problem.num_rows, *own)
    return Examples(*found)


@dataclass
class _Attack:
    """A search from images [n, 3, H, W] of `labels` that the model gets right."""

    model: nn.Module
    pixel_range: tuple[Tensor, Tensor]
    images: Tensor
    labels: Tensor

    def run(self, radius: float, steps: int) -> tuple[Tensor, Tensor]:
        """Return an image for each, and what the model takes it for: its label where it failed."""
        black, white = self.pixel_range
        start = (self.images - black) / (white - black)
        pixels, answers = start.clone(), self.labels.clone()
        active = torch.arange(len(answers), device=answers.device)
        farthest = math.sqrt(math.prod(start.shape[1:]))
        while len(active):
            for _ in range(steps):
                gradient, predicted = self._gradient(pixels[active], self.labels[active])
                right = predicted == self.labels[active]
                answers[active] = predicted
                active, gradient = active[right], gradient[right]
                if not len(active):
                    break
                pixels[active] = _moved(pixels[active], start[active], gradient, radius)
            if radius >= farthest:
                break
            radius *= 2
        with torch.no_grad():  # the last step is not judged yet
            if len(active):
                answers[active] = self._answer(pixels[active]).argmax(dim=1)
        return black + pixels * (white - black), answers

    def _answer(self, pixels: Tensor) -> Tensor:
        black, white = self.pixel_range
        logits: Tensor = self.model(black + pixels * (white - black))
        return logits

    def _gradient(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇CE to the pixels, and the predicted labels."""
        leaf = pixels.detach().requires_grad_()
        logits = self._answer(leaf)
        [gradient] = torch.autograd.grad(cross_entropy(logits, labels).sum(), leaf)
        return gradient, logits.argmax(dim=1)


def _moved(pixels: Tensor, start: Tensor, gradient: Tensor, radius: float) -> Tensor:
    """Return pixels after a step along the gradient, within the radius and the range of pixels."""
    norm = gradient.flatten(1).norm(dim=1).clamp_min(SMALLEST_NORM)
    shift = pixels + _by_row(radius / STEPS_A_RADIUS / norm) * gradient - start
    length = shift.flatten(1).norm(dim=1).clamp_min(SMALLEST_NORM)
    return (start + shift * _by_row((radius / length).clamp_max(1))).clamp(0, 1)


def _by_row(values: Tensor) -> Tensor:
    return values[:, None, None, None]
