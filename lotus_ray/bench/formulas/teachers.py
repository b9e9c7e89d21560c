"""Formulas of the methods that imitate a teacher, or flee from one.

The gradient of KL(q ‖ softmax z) and of −Σ q·log softmax z to z is p − q.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lotus_ray.bench.formulas.linear import (
    Weights,
    accuracy,
    gradient,
    label_slopes,
    logits,
    one_hot,
    softmax,
    start,
    weights_of,
)
from lotus_ray.bench.formulas.optimizers import Adam, Sgd
from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.problem import Problem

STOP_AT = -0.01  # difference of accuracies at which LoTUS ends


def _towards(weights: Weights, batch: Batch, targets: Tensor) -> Weights:
    """Return the gradient of the mean KL from targets [N, C]."""
    slopes = (softmax(logits(weights, batch.images)) - targets) / len(batch.labels)
    return gradient(slopes, batch.images)


def bad_teacher(method: Any, problem: Problem) -> Weights:
    """Imitate the random network on D_f, and the original on a part of D_r."""
    weights, adam = start(problem), Adam(method.lr, method.weight_decay)
    good, bad = start(problem), weights_of(problem.random_model())
    samples = problem.forget.union(problem.retain.subset(method.retain_fraction, "bad_teacher"))
    for epoch in range(method.epochs):
        for batch in samples.shuffled(problem.batch_size, "bad_teacher", epoch):
            answers = [softmax(logits(each, batch.images)) for each in (good, bad)]
            targets = torch.stack(answers)[batch.forget.long(), torch.arange(len(batch.labels))]
            weights = adam.step(weights, _towards(weights, batch, targets))
    return weights


def scrub(method: Any, problem: Problem) -> Weights:
    """Max steps: ∂L/∂z = −T·(p_s − p_t)/N. Min steps: γ·(p − Y)/N + α·T·(p_s − p_t)/N."""
    weights, adam = start(problem), Adam(method.lr, method.weight_decay)
    teacher, size = start(problem), problem.batch_size
    t: float = method.temperature

    def distance(batch: Batch) -> Tensor:
        cold = [softmax(logits(each, batch.images) / t) for each in (weights, teacher)]
        return t * (cold[0] - cold[1]) / len(batch.labels)

    for epoch in range(method.epochs):
        if epoch in method.lr_decay:
            adam.lr *= method.lr_decay_rate
        if epoch < method.msteps:
            if method.max_weight_decay is not None:
                adam.decay = method.max_weight_decay
            for batch in problem.forget.shuffled(size, "scrub", "max", epoch):
                weights = adam.step(weights, gradient(-distance(batch), batch.images))
        adam.decay = method.weight_decay
        for batch in problem.retain.shuffled(size, "scrub", "min", epoch):
            slopes = method.gamma * label_slopes(weights, batch.images, batch.labels)
            slopes += method.alpha * distance(batch)
            weights = adam.step(weights, gradient(slopes, batch.images))
    return weights


def lotus(method: Any, problem: Problem) -> Weights:
    """Imitate the original: smoothed by τ_d on D_f, one sampled class on a part of D_r."""
    teacher = weights = start(problem)
    adamw = Adam(method.lr, method.weight_decay, decoupled=True)
    samples = problem.forget.union(problem.retain.subset(method.retain_fraction, "lotus"))
    unseen = accuracy(teacher, problem.calibration)
    for epoch in range(method.epochs):
        difference = accuracy(weights, problem.forget) - unseen
        if difference <= STOP_AT:
            break
        tau = math.exp(method.alpha * difference)
        for batch in samples.shuffled(problem.batch_size, "lotus", epoch):
            uniform = problem.uniform(batch, problem.num_classes, "lotus", epoch)
            noisy = logits(teacher, batch.images)
            if method.variant == "gumbel":
                noisy -= torch.log(-torch.log(uniform))
            sampled = one_hot(noisy.argmax(dim=1), problem.num_classes)
            is_forget = batch.forget.double()[:, None]
            targets = is_forget * softmax(noisy / tau) + (1 - is_forget) * sampled
            weights = adamw.step(weights, _towards(weights, batch, targets))
    return weights


def delete(method: Any, problem: Problem) -> Weights:
    """Imitate the original on D_f, with p_y = 0 and the others scaled to a sum of 1."""
    teacher = weights = start(problem)
    sgd = Sgd.of(method)
    for epoch in range(method.epochs):
        for batch in problem.forget.shuffled(problem.batch_size, "delete", epoch):
            p = softmax(logits(teacher, batch.images))
            others = p * (1 - one_hot(batch.labels, p.shape[1]))
            targets = others / others.sum(dim=1, keepdim=True)
            weights = sgd.step(weights, _towards(weights, batch, targets))
    return weights
