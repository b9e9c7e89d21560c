"""AMUN: keep the forget set, and add its nearest adversarial examples with their wrong labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from lotus_ray.base import seeds
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.adversarial import Examples, nearest_examples
from lotus_ray.unlearning.methods.supervised import sgd
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import set_learning_rate


@dataclass(frozen=True)
class Amun(Method):
    """Minimise CE over D_r ∪ D_f ∪ D_a, D_a = {(x_a, argmax f₀(x_a))} for each x of D_f.

    x_a is the nearest example that the original f₀ does not give the label of x, as L2-PGD finds
    it: see `nearest_examples`. They are found once per cell, each on one worker, and every worker
    then holds all of them in memory, in the model's dtype: as many images as D_f has. A note counts
    the images of D_f without an example; they have no part in D_a.

    Args:
        epochs: passes over all three sets.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        decay_every: epochs after each of which the learning rate falls to a tenth.
        attack_steps: PGD steps for each radius.
        radius: the first radius, an L2 distance of pixels in 0 … 1; it doubles until f₀ errs.

    Source: Ebrahimpour-Boroojeny et al. 2025 (ICML), and their code. Deviation: every batch holds
    its share of D_a, where their batches hold a random number of it; and no images are augmented.
    The first radius is one for all images, where their last script estimates it from 50 of them.
    Examples are not kept for other cells of the same original.
    """

    name: ClassVar[str] = "amun"
    label: ClassVar[str] = "AMUN"
    positive: ClassVar[tuple[str, ...]] = ("decay_every", "attack_steps", "radius")

    epochs: int = 10
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_every: int = 1
    attack_steps: int = 50
    radius: float = 0.04

    def phases(self, problem: Problem) -> Iterator[Phase[Mixed]]:
        """Yield one phase per epoch."""
        optimizer = sgd(problem.model, self)
        examples = nearest_examples(problem, self.radius, self.attack_steps)
        missed = float(len(problem.forget) - len(examples))
        for epoch in range(self.epochs):
            rate = self.lr * 0.1 ** (epoch // self.decay_every)
            set_learning_rate(optimizer, rate)
            yield Phase(
                batches=_mixed(problem, examples, epoch),
                loss=_loss(examples),
                optimizer=optimizer,
                split=_split,
                notes={"lr": rate, "without_example": missed},
            )


@dataclass(frozen=True)
class Mixed:
    """One worker's share of a global batch of all three sets."""

    batch: Batch  # of D_r ∪ D_f
    rows: int  # of that global batch, each counted once
    chosen: Tensor  # int64 [a]: this worker's adversarial examples
    examples: int  # adversarial examples, over all workers


def _mixed(problem: Problem, examples: Examples, epoch: int) -> Iterator[Mixed]:
    """Yield the batches of an epoch; both parts are shuffled, and spread over all of them."""
    samples = problem.forget.union(problem.retain)
    count, size = len(samples), problem.batch_size
    size = math.ceil(count / math.ceil((count + len(examples)) / size))
    steps = math.ceil(count / size)
    order = seeds.scores(examples.keys, problem.seed, "amun", "examples", epoch).argsort()
    rank, workers = problem.workers.rank, problem.workers.size
    for step, batch in enumerate(samples.shuffled(size, "amun", epoch)):
        start, end = (len(order) * each // steps for each in (step, step + 1))
        rows = count // steps + (step < count % steps)
        yield Mixed(batch, rows, order[start:end][rank::workers], end - start)


def _split(mixed: Mixed, most: int) -> list[Mixed]:
    """Split both kinds of images into as many parts, which may have none of one kind."""
    count = -(-(mixed.rows + mixed.examples) // most)
    rows, chosen = len(mixed.batch.rows), len(mixed.chosen)
    places = [(rows + chosen) * part // count for part in range(count + 1)]
    return [
        replace(
            mixed,
            batch=mixed.batch.part(slice(min(start, rows), min(end, rows))),
            chosen=mixed.chosen[max(start - rows, 0) : max(end - rows, 0)],
        )
        for start, end in pairwise(places)
    ]


def _loss(examples: Examples) -> Callable[[nn.Module, Mixed], Tensor]:
    def loss(model: nn.Module, mixed: Mixed) -> Tensor:
        batch, chosen = mixed.batch, mixed.chosen
        images = torch.cat([batch.images, examples.images[chosen]])
        labels = torch.cat([batch.labels, examples.labels[chosen]])
        losses = cross_entropy(model(images), labels)
        plain, adversarial = torch.split(losses, [len(batch.rows), len(chosen)])
        total = mixed.rows + mixed.examples
        return batch.mean(plain) * (mixed.rows / total) + adversarial.sum() / total

    return loss
