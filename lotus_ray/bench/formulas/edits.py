"""Formulas of the methods that edit weights by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lotus_ray.base import seeds
from lotus_ray.bench.formulas.linear import (
    Weights,
    clipped,
    cycle,
    dot,
    label_gradient,
    normal,
    start,
)
from lotus_ray.bench.formulas.optimizers import Sgd
from lotus_ray.unlearning.contract import SampleSet
from lotus_ray.unlearning.problem import Problem


def squares(weights: Weights, problem: Problem, samples: SampleSet, *names: object) -> Weights:
    """Return the squared gradient of each batch, [batches, …] for each weight."""
    gradients = [
        label_gradient(weights, batch) for batch in samples.shuffled(problem.batch_size, *names)
    ]
    return [torch.stack(each) ** 2 for each in zip(*gradients, strict=True)]


def ssd(method: Any, problem: Problem) -> Weights:
    """Scale by λ·I_D/I_f, at most 1, where I_f > α·I_D; batches of D are of D_f or of D_r alone."""
    weights = start(problem)
    if method.importance == "sample":
        problem = replace(problem, batch_size=1)
    forget, retain = (
        squares(weights, problem, samples, "ssd") for samples in (problem.forget, problem.retain)
    )
    for value, f, r in zip(weights, forget, retain, strict=True):
        of_forget, of_all = f.mean(dim=0), torch.cat([f, r]).mean(dim=0)
        chosen = of_forget > method.alpha * of_all
        factor = method.dampening * of_all[chosen] / of_forget[chosen]
        value[chosen] = value[chosen] * factor.clamp(max=1)
    return weights


def certified_noise(method: Any, problem: Problem) -> Weights:
    """Clip θ to C0; θ ← θ − γ·(clip_C1(g) + λ·θ) + σ·ξ; then train on D_r in one cycle."""
    weights, size = start(problem), problem.batch_size
    shrunk = min(1.0, method.model_clip / dot(weights, weights) ** 0.5)
    weights = [value * shrunk for value in weights]
    names = [name for name, _ in problem.original.named_parameters()]
    batches = cycle(problem.retain, size, "certified_noise", "noisy")
    for step in range(_noisy_steps(method)):
        g = clipped(label_gradient(weights, next(batches)), method.gradient_clip)
        for value, slope, name in zip(weights, g, names, strict=True):
            keys = torch.arange(value.numel())
            stream = (problem.seed, "certified_noise", step, name)
            noise = normal(seeds.uniform(keys, 1, *stream)).view_as(value)
            value -= method.noise_lr * (slope + method.shrink * value) - _sigma(method) * noise
    sgd, step = Sgd(method.lr, decay=method.weight_decay), 0
    steps = method.epochs * math.ceil(len(problem.retain) / size)
    for epoch in range(method.epochs):
        for batch in problem.retain.shuffled(size, "certified_noise", epoch):
            rate = np.interp(step / steps, [0, 0.3, 0.85, 1], [1 / 25, 1, 1 / 25, 1 / 25e4])
            sgd.lr = method.lr * float(rate)
            weights = sgd.step(weights, label_gradient(weights, batch))
            step += 1
    return weights


def _noisy_steps(method: Any) -> int:
    """Return T; the settings of the sheet give it."""
    assert method.noise_steps
    return int(method.noise_steps)


def _sigma(method: Any) -> float:
    """Return σ = S/√(2·ε_R·G), from sums of powers of c = 1 − γ·λ in closed form; λ > 0."""
    c, steps = 1 - method.noise_lr * method.shrink, _noisy_steps(method)
    ones, twos = (1 - c**steps) / (1 - c), (1 - c ** (2 * steps)) / (1 - c**2)
    apart = 2 * method.model_clip * c**steps + 2 * method.noise_lr * method.gradient_clip * ones
    return float(apart / math.sqrt(2 * method.renyi * twos))
