"""Formulas of the methods that train on labels: the set's own, or others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lotus_ray.bench.formulas.linear import Weights, cycle, label_gradient, plus, start
from lotus_ray.bench.formulas.optimizers import Sgd
from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.problem import Problem


def finetune(method: Any, problem: Problem) -> Weights:
    """Train on D_r."""
    weights, sgd = start(problem), Sgd.of(method)
    for epoch in range(method.epochs):
        for batch in problem.retain.shuffled(problem.batch_size, "finetune", epoch):
            weights = sgd.step(weights, label_gradient(weights, batch))
    return weights


def neggrad_plus(method: Any, problem: Problem) -> Weights:
    """Take a·∇CE(B_r) − (1 − a)·∇CE(B_f) as gradient."""
    weights, sgd, a = start(problem), Sgd.of(method), method.retain_weight
    size = problem.batch_size
    for epoch in range(method.epochs):
        forgotten = cycle(problem.forget, size, "neggrad_plus forget", epoch)
        for r in problem.retain.shuffled(size, "neggrad_plus", epoch):
            f = next(forgotten)
            g = plus((a, label_gradient(weights, r)), (a - 1, label_gradient(weights, f)))
            weights = sgd.step(weights, g)
    return weights


def relabel(method: Any, problem: Problem, mask: list[Tensor] | None = None) -> Weights:
    """Train on D_f with wrong labels, then on D_r with its own; outside a mask nothing moves."""
    original, sgd, size = start(problem), Sgd.of(method), problem.batch_size
    mask = mask or [torch.ones_like(value, dtype=torch.bool) for value in original]
    weights = original

    def step(batch: Batch, labels: Tensor) -> Weights:
        moved = sgd.step(weights, label_gradient(weights, batch, labels))
        return [torch.where(*each) for each in zip(mask, moved, original, strict=True)]

    for epoch in range(method.epochs):
        for batch in problem.forget.shuffled(size, "relabel", "forget", epoch):
            weights = step(batch, _wrong(problem, batch, epoch))
        for batch in problem.retain.shuffled(size, "relabel", "retain", epoch):
            weights = step(batch, batch.labels)
    return weights


def _wrong(problem: Problem, batch: Batch, epoch: int) -> Tensor:
    """Return the u·(K − 1)-th of the classes after a row's own, counted around, for each row."""
    classes, wrong = problem.num_classes, []
    uniform = problem.uniform(batch, 1, "relabel", epoch)[:, 0].tolist()
    for label, u in zip(batch.labels.tolist(), uniform, strict=True):
        others = [(label + step) % classes for step in range(1, classes)]
        wrong.append(others[int(u * len(others))])
    return torch.tensor(wrong)


def salun(method: Any, problem: Problem) -> Weights:
    """Relabel, where only the weights of largest |Σ ∇CE(D_f)| at the original move."""
    weights = start(problem)
    total = [torch.zeros_like(value) for value in weights]
    for batch in problem.forget.shuffled(problem.batch_size, "salun mask"):
        total = plus((1.0, total), (1.0, label_gradient(weights, batch)))
    sizes = torch.cat([value.flatten() for value in total]).abs()
    chosen = torch.zeros_like(sizes, dtype=torch.bool)
    chosen[sizes.argsort(descending=True)[: round(method.density * len(sizes))]] = True
    parts = torch.split(chosen, [value.numel() for value in weights])
    mask = [part.view_as(value) for part, value in zip(parts, weights, strict=True)]
    return relabel(method.inner, problem, mask)


def l1_sparse(method: Any, problem: Problem) -> Weights:
    """Add γ·(1 − t/T)·sign(θ) to the gradient on D_r."""
    weights, sgd = start(problem), Sgd.of(method)
    for epoch in range(method.epochs):
        gamma = method.gamma * (method.epochs - epoch) / method.epochs
        for batch in problem.retain.shuffled(problem.batch_size, "l1_sparse", epoch):
            signs = [value.sign() for value in weights]
            g = plus((1.0, label_gradient(weights, batch)), (gamma, signs))
            weights = sgd.step(weights, g)
    return weights
