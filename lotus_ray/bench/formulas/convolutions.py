"""Formulas of the methods that treat convolutions: K, its bias, W and b of the network of a stage.

Gradients come from autograd; edits and steps are written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lotus_ray.base import seeds
from lotus_ray.bench.formulas.linear import Weights, normal, plus, start, weights_of
from lotus_ray.bench.formulas.optimizers import Sgd
from lotus_ray.unlearning.contract import Batch, SampleSet
from lotus_ray.unlearning.problem import Problem

KERNEL, LINEAR = (0, "0.weight"), (2, "3.weight")  # places and names of K and W


def _gradient(weights: Weights, batch: Batch) -> Weights:
    """Return the gradient of the mean cross-entropy."""
    leaves = [value.clone().requires_grad_() for value in weights]
    hidden = conv2d(batch.images, leaves[0], leaves[1], padding=1).clamp(min=0)
    z = hidden.flatten(1) @ leaves[2].T + leaves[3]
    losses = torch.logsumexp(z, dim=1) - z[torch.arange(len(z)), batch.labels]
    return list(torch.autograd.grad(losses.mean(), leaves))


def _train(
    method: Any,
    problem: Problem,
    weights: Weights,
    rate: Callable[[int], float],
    factors: Mapping[int, Tensor] = MappingProxyType({}),
) -> Weights:
    """Train on D_r, at a rate by epoch, with factors on the gradients of some weights, by place."""
    sgd = Sgd.of(method)
    for epoch in range(method.epochs):
        sgd.lr = method.lr * rate(epoch)
        for batch in problem.retain.shuffled(problem.batch_size, method.name, epoch):
            g = _gradient(weights, batch)
            g = [value * factors.get(place, 1.0) for place, value in enumerate(g)]
            weights = sgd.step(weights, g)
    return weights


def ct(method: Any, problem: Problem) -> Weights:
    """Swap the sides of each kernel, then train on D_r, at a half cosine."""
    kernel, *others = start(problem)
    swapped = torch.einsum("oihw->oiwh", kernel)
    return _train(
        method,
        problem,
        [swapped, *others],
        lambda epoch: 0.5 + 0.5 * math.cos(math.pi * epoch / method.epochs),
    )


def cf_k(method: Any, problem: Problem) -> Weights:
    """Train the last k blocks on D_r: one is W and b, two are all weights."""
    return _train_last(method, problem, start(problem))


def eu_k(method: Any, problem: Problem) -> Weights:
    """Give the last k blocks the random network's weights, then train them on D_r."""
    first = _first_last(method)
    weights = start(problem)[:first] + weights_of(problem.random_model())[first:]
    return _train_last(method, problem, weights)


def _train_last(method: Any, problem: Problem, weights: Weights) -> Weights:
    first, sgd = _first_last(method), Sgd.of(method)
    frozen, last = weights[:first], weights[first:]
    for epoch in range(method.epochs):
        for batch in problem.retain.shuffled(problem.batch_size, method.name, epoch):
            last = sgd.step(last, _gradient(frozen + last, batch)[first:])
    return frozen + last


def _first_last(method: Any) -> int:
    """Return the index of the first weight of the last k blocks."""
    return {1: 2, 2: 0}[method.k]


def msg(method: Any, problem: Problem) -> Weights:
    """Draw K's entries of smallest |g| anew, W's too if asked; then train, the others slowly."""
    weights, factors = start(problem), {}
    partners = problem.retain.draw(len(problem.forget), "msg")
    g = plus((1.0, _sum(problem, partners)), (-1.0, _sum(problem, problem.forget)))
    for place, name in (KERNEL, LINEAR) if method.linear else (KERNEL,):
        value = weights[place]
        order = g[place].abs().flatten().argsort()
        drawn = order[: round(method.redrawn_fraction * len(order))]
        fan_out = value.shape[0] * value.shape[2:].numel()
        draws = normal(seeds.uniform(drawn, 1, problem.seed, "msg", name)[:, 0])
        value.view(-1)[drawn] = draws * math.sqrt(2 / fan_out)
        factors[place] = torch.full_like(value, method.gradient_scale)
        factors[place].view(-1)[drawn] = 1
    top = math.ceil(method.epochs / 2)  # the epoch of the highest rate, counted from 1
    rates = [*(epoch / top for epoch in range(1, top + 1))]
    falling = method.epochs - top
    rates += [1 - step / (falling + 1) for step in range(1, falling + 1)]
    return _train(method, problem, weights, rates.__getitem__, factors)


def _sum(problem: Problem, samples: SampleSet) -> Weights:
    """Return Σ_batches ∇CE at the original."""
    weights = start(problem)
    batches = samples.shuffled(problem.batch_size, "msg gradient")
    return plus(*((1.0, _gradient(weights, batch)) for batch in batches))
