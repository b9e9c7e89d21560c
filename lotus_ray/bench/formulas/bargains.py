"""Formulas of the methods that take turns with, or weigh, forget and retain steps."""

from __future__ import annotations

import math
from typing import Any

import torch

from lotus_ray.bench.formulas.edits import squares
from lotus_ray.bench.formulas.linear import (
    Weights,
    clipped,
    cycle,
    dot,
    gradient,
    label_gradient,
    logits,
    one_hot,
    plus,
    softmax,
    start,
)
from lotus_ray.bench.formulas.optimizers import Adam, Sgd
from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.problem import Problem


def munba(method: Any, problem: Problem) -> Weights:
    """Take the paper's closed form: α₁² = (ac − b√(ac))/(a²c − ab²), α₂ = (1 − aα₁²)/(bα₁)."""
    weights, sgd, size = start(problem), Sgd.of(method), problem.batch_size
    classes = problem.num_classes
    for epoch in range(method.epochs):
        forgotten = iter(problem.forget.shuffled(size, "munba", "forget", epoch))
        for r in problem.retain.shuffled(size, "munba", epoch):
            g = label_gradient(weights, r)
            f = next(forgotten, None)
            if f is not None:
                labels = (problem.uniform(f, 1, "munba", epoch)[:, 0] * classes).floor().long()
                h = label_gradient(weights, f, labels)
                a, b, c = dot(g, g), dot(g, h), dot(h, h)
                one = math.sqrt((a * c - b * math.sqrt(a * c)) / (a * a * c - a * b * b))
                other = (1 - a * one**2) / (b * one)
                g = clipped(plus((one, g), (other, h)), method.max_norm)
            weights = sgd.step(weights, g)
    return weights


def sfron(method: Any, problem: Problem) -> Weights:
    """Descend on D_r; before every k-th step ascend on D_f, where F_f ≥ γ·F_r, and clip."""
    weights, size = start(problem), problem.batch_size
    is_adamw = method.optimizer == "adamw"
    optimizer = Adam(method.lr, method.weight_decay, True) if is_adamw else Sgd.of(method)
    forget = squares(weights, problem, problem.forget, "sfron", "forget fisher")
    retain = squares(weights, problem, problem.retain, "sfron", "retain fisher")
    mask = [
        (f.mean(dim=0) >= method.threshold * r.mean(dim=0)).double()
        for f, r in zip(forget, retain, strict=True)
    ]
    step = turn = 0
    while step < method.steps:
        forgotten = cycle(problem.forget, size, "sfron", "forget", turn)
        for r in problem.retain.shuffled(size, "sfron", turn):
            if step == method.steps:
                break
            scale = 0.5 + 0.5 * math.cos(math.pi * step / method.steps)
            optimizer.lr = method.lr * scale
            if step % method.ascend_every == 0:
                g = _ascent(weights, next(forgotten), method.alpha * scale, method.exponent)
                masked = [value * part for value, part in zip(g, mask, strict=True)]
                weights = optimizer.step(weights, clipped(masked, method.max_norm))
            weights = optimizer.step(weights, label_gradient(weights, r))
            step += 1
        turn += 1
    return weights


def _ascent(weights: Weights, batch: Batch, alpha: float, exponent: float) -> Weights:
    """Return −α·Σ_i w_i·∇CE_i / Σ_i w_i with w = CE^−λ."""
    p = softmax(logits(weights, batch.images))
    losses = -torch.log(p[torch.arange(len(p)), batch.labels])
    shares = losses**-exponent / (losses**-exponent).sum()
    slopes = -alpha * shares[:, None] * (p - one_hot(batch.labels, p.shape[1]))
    return gradient(slopes, batch.images)


def fcs(method: Any, problem: Problem) -> Weights:
    """Flatten D_f; then push D_f away from retain images and train on D_r, in turn."""
    weights, size = start(problem), problem.batch_size
    flat, push = Sgd(method.lr, method.momentum), Sgd(method.forget_lr, method.momentum)
    repair = Sgd(method.retain_lr * size / 64, method.momentum, method.retain_weight_decay)
    for batch in problem.forget.shuffled(size, "fcs", "flatten"):
        p = softmax(logits(weights, batch.images))
        slopes = (p - 1 / p.shape[1]) / len(p)
        weights = flat.step(weights, gradient(slopes, batch.images))
    rounds, step = (
        [
            list(problem.forget.shuffled(size, "fcs", "forget", epoch))
            for epoch in range(method.epochs)
        ],
        0,
    )
    for epoch, batches in enumerate(rounds):
        partners = cycle(problem.retain, method.contrast_batch_size, "fcs contrast", epoch)
        for batch in batches:
            share = 0.5 + 0.5 * math.cos(math.pi * step / sum(map(len, rounds)))
            push.lr = method.last_forget_lr * (1 - share) + method.forget_lr * share
            weights = push.step(
                weights, _contrast(weights, batch, next(partners), method.temperature)
            )
            step += 1
        for batch in problem.retain.shuffled(size, "fcs", "retain", epoch):
            weights = repair.step(weights, label_gradient(weights, batch))
    return weights


def _contrast(weights: Weights, batch: Batch, others: Batch, temperature: float) -> Weights:
    """Return the gradient of the mean over i, j of −log softmax_j(z_i·z_j/τ); z_j are fixed.

    ∂L/∂z_i = Σ_j (p_ij − 1/M)·z_j/(τ·N), with M retain rows.
    """
    fixed = logits(weights, others.images)
    p = softmax(logits(weights, batch.images) @ fixed.T / temperature)
    slopes = (p - 1 / len(fixed)) @ fixed / (temperature * len(p))
    return gradient(slopes, batch.images)
