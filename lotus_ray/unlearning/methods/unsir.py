"""UNSIR: learn noise that the model answers unlike the forget set, train on it, then repair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.noise import normal
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem

Pair = tuple[Batch, Batch]  # forget rows, and as many retain rows


@dataclass(frozen=True)
class Unsir(Method):
    """In each epoch, impair with noise, then repair on a part of the retain set.

    Impair: for each batch of D_f and as many retain rows, noise images take `noise_steps` Adam
    steps that maximise MSE(f(noise), f(x_f)), with the model in eval mode and pixels clamped to
    their valid range. Then the model takes one step on CE(f(noise), y_r) + CE(f(x_r), y_r).
    Repair: CE(f(x_r), y_r) on the part of D_r.

    Args:
        epochs: each is one impair pass and one repair pass.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        retain_per_class: the most retain samples of a class that are used: 1000 on CIFAR-10, 100
            on CIFAR-100 and Tiny-ImageNet.
        noise_steps: Adam steps for each batch of noise.
        noise_lr: learning rate of those steps.

    Source: Tarun et al. 2023, in the variant of the MUFAC benchmark (Choi & Na 2023); defaults of
    Spartalis et al. 2025. Deviation: Tarun et al. learn noise for a class and its label, this
    variant learns noise for each batch of samples. Against the code of the comparison: noise takes
    five steps, not one, with the model in eval mode, and is clamped before and after each. The part
    of D_r is drawn at random, where theirs is the first of each class. Every forget sample has a
    partner: if D_f is larger than the part of D_r, retain samples repeat, in passes that are each
    shuffled. Theirs leaves out what has no partner, and batches that are not full.
    """

    name: ClassVar[str] = "unsir"
    label: ClassVar[str] = "UNSIR"
    positive: ClassVar[tuple[str, ...]] = ("retain_per_class",)
    version: ClassVar[int] = 2  # copies of a retain sample come in passes, not side by side

    epochs: int = 10
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    retain_per_class: int = 1000
    noise_steps: int = 5
    noise_lr: float = 0.01

    @property
    def batches_held(self) -> int:
        """Return 2: noise, and retain rows."""
        return 2

    def phases(self, problem: Problem) -> Iterator[Phase[Pair] | Phase[Batch]]:
        """Yield two phases per epoch: impair, repair."""
        optimizer = sgd(problem.model, self)
        kept = problem.retain.at_most(self.retain_per_class, self.name)
        size = problem.batch_size
        for epoch in range(self.epochs):
            partners = kept.draw(len(problem.forget), self.name, epoch)
            yield Phase(
                batches=zip(
                    problem.forget.shuffled(size, self.name, "forget", epoch),
                    partners.shuffled(size, self.name, "partner", epoch),
                    strict=True,
                ),
                loss=self._impair(problem, epoch),
                optimizer=optimizer,
            )
            yield Phase(
                batches=kept.shuffled(size, self.name, "repair", epoch),
                loss=label_loss,
                optimizer=optimizer,
            )

    def noise(self, problem: Problem, batch: Batch, epoch: int) -> Tensor:
        """Return noise images [N, 3, H, W] whose logits are far from those of `batch`."""
        low, high = problem.pixel_range
        uniform = problem.uniform(batch, batch.images[0].numel(), self.name, epoch)
        noise = normal(uniform).to(batch.images).reshape(batch.images.shape).clamp(low, high)
        noise.requires_grad_()
        optimizer = Adam([noise], lr=self.noise_lr, fused=True)
        model = problem.model.eval()
        with torch.no_grad():
            answer = model(batch.images)
        for _ in range(self.noise_steps):
            distance = batch.mean((model(noise) - answer).square().mean(dim=1))
            noise.grad = torch.autograd.grad(-distance, noise)[0]
            optimizer.step()
            with torch.no_grad():
                noise.clamp_(low, high)
        model.train()
        return noise.detach()

    def _impair(self, problem: Problem, epoch: int) -> Callable[[nn.Module, Pair], Tensor]:
        def loss(model: nn.Module, pair: Pair) -> Tensor:
            forgotten, retained = pair
            noise = self.noise(problem, forgotten, epoch)
            on_noise = cross_entropy(model(noise), retained.labels)
            on_images = cross_entropy(model(retained.images), retained.labels)
            return retained.mean(on_noise) + retained.mean(on_images)

        return loss
