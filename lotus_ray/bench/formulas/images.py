"""Formulas of the methods that change images: ∂L/∂x = Wᵀ·∂L/∂z."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lotus_ray.bench.formulas.linear import (
    Weights,
    gradient,
    label_gradient,
    label_slopes,
    logits,
    normal,
    plus,
    start,
)
from lotus_ray.bench.formulas.optimizers import Adam, Sgd
from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.problem import Problem


def unsir(method: Any, problem: Problem) -> Weights:
    """Train on noise that is answered unlike D_f, with retain labels; then on a part of D_r."""
    weights, sgd, size = start(problem), Sgd.of(method), problem.batch_size
    kept = problem.retain.at_most(method.retain_per_class, "unsir")
    for epoch in range(method.epochs):
        partners = kept.draw(len(problem.forget), "unsir", epoch)
        pairs = zip(
            problem.forget.shuffled(size, "unsir", "forget", epoch),
            partners.shuffled(size, "unsir", "partner", epoch),
            strict=True,
        )
        for f, r in pairs:
            noise = _noise(method, problem, weights, f, epoch)
            on_noise = gradient(label_slopes(weights, noise, r.labels), noise)
            weights = sgd.step(weights, plus((1.0, on_noise), (1.0, label_gradient(weights, r))))
        for batch in kept.shuffled(size, "unsir", "repair", epoch):
            weights = sgd.step(weights, label_gradient(weights, batch))
    return weights


def _noise(method: Any, problem: Problem, weights: Weights, batch: Batch, epoch: int) -> Tensor:
    """Return images after Adam steps up the mean of (z(noise) − z(x))² over rows and classes."""
    low, high = problem.pixel_range
    shape = batch.images.shape
    noise = normal(problem.uniform(batch, shape[1:].numel(), "unsir", epoch)).view(shape)
    noise = noise.clamp(low, high)
    adam = Adam(method.noise_lr)
    for _ in range(method.noise_steps):
        apart = logits(weights, noise) - logits(weights, batch.images)
        downhill = -2 * apart / apart.numel() @ weights[0]
        [noise] = adam.step([noise], [downhill.view(shape)])
        noise = noise.clamp(low, high)
    return noise


def boundary_shrink(method: Any, problem: Problem) -> Weights:
    """Train D_f on the original's best wrong class at x + ε·(white − black)·sign(∂CE/∂x)."""
    original = weights = start(problem)
    sgd = Sgd.of(method)
    low, high = problem.pixel_range
    for epoch in range(method.epochs):
        for batch in problem.forget.shuffled(problem.batch_size, "boundary_shrink", epoch):
            uphill = label_slopes(original, batch.images, batch.labels) @ original[0]
            signs = uphill.sign().view_as(batch.images)
            attacked = batch.images + method.epsilon * (high - low) * signs
            z = logits(original, torch.minimum(torch.maximum(attacked, low), high))
            z[torch.arange(len(z)), batch.labels] = -torch.inf
            weights = sgd.step(weights, label_gradient(weights, batch, z.argmax(dim=1)))
    return weights


def jit(method: Any, problem: Problem) -> Weights:
    """∂L/∂z is the mean over copies of (z − z′)/(‖z − z′‖·‖ξ‖), divided by N; z′ is fixed."""
    weights, sgd = start(problem), Sgd(method.lr, method.momentum)
    low, high = problem.pixel_range
    for turn in range(method.passes):
        for batch in problem.forget.shuffled(problem.batch_size, "jit", turn):
            images, slopes = batch.images, []
            for copy in range(method.copies):
                draws = problem.uniform(batch, images[0].numel(), "jit", turn, copy)
                noise = method.sigma * normal(draws).view_as(images)
                other = torch.minimum(torch.maximum(images + noise, low), high)
                moved = ((other - images) ** 2).sum(dim=(1, 2, 3)) ** 0.5
                apart = logits(weights, images) - logits(weights, other)
                lengths = (apart**2).sum(dim=1) ** 0.5
                slopes.append(apart / (lengths * moved)[:, None])
            mean = torch.stack(slopes).mean(dim=0) / len(images)
            weights = sgd.step(weights, gradient(mean, images))
    return weights
