"""MSG: draw anew the weights that both sets pull alike, then train on the retain set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lotus_ray.base import seeds
from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase, SampleSet
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.gradients import label_gradient
from lotus_ray.unlearning.methods.noise import normal
from lotus_ray.unlearning.methods.selection import largest
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import set_learning_rate


@dataclass(frozen=True)
class Msg(Method):
    """Draw the weights of smallest |g| anew, layer by layer, then minimise CE(f(x), y) over D_r.

    g = Σ_batches ∇CE(R) − Σ_batches ∇CE(D_f), where R are as many retain samples as D_f has. New
    weights are normal with variance 2/fan_out. While it trains, gradients of the other weights of
    these layers count `gradient_scale` times. The learning rate rises, then falls, epoch by epoch.

    Args:
        epochs: passes over the retain set.
        lr: the highest learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        redrawn_fraction: part of each layer's weights that is drawn anew.
        gradient_scale: factor on the gradients of the other weights.
        linear: True to treat linear layers like convolutions. False leaves a Vision Transformer
            all but its patch embedding.

    Source: second place of the NeurIPS 2023 unlearning challenge (Kookmin); Masked Small Gradients
    in Cadet et al. 2024 (Deep Unlearn). Deviation: gradients are those of the model in eval mode.
    If D_f is larger than D_r, retain samples repeat. `linear` is not theirs. The batch size is the
    job's, theirs is 64.
    """

    name: ClassVar[str] = "msg"
    label: ClassVar[str] = "MSG"

    epochs: int = 5
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    redrawn_fraction: float = 0.3
    gradient_scale: float = 0.1
    linear: bool = False

    @property
    def weight_copies(self) -> float:
        """Return 2: momentum, and the factors of gradients."""
        return 2.0

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0: lr·⅓, ⅔, 1, ⅔, ⅓ of five."""
        rising = (self.epochs + 1) // 2
        falling = self.epochs + 1 - rising
        return self.lr * min((epoch + 1) / rising, (self.epochs - epoch) / falling)

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Draw weights anew, then yield one phase per epoch.

        Raises:
            MethodError: the network has no layer of these kinds.
        """
        weights = self._weights(problem.model)
        kept = _kept(problem, list(weights.values()), self.redrawn_fraction)
        for (name, weight), mask in zip(weights.items(), kept, strict=True):
            _draw_anew(weight, ~mask, problem.seed, self.name, name)
        optimizer = sgd(problem.model, self)
        drawn = sum(int((~mask).sum()) for mask in kept)
        edit = _scale_gradients(list(weights.values()), kept, self.gradient_scale)
        for epoch in range(self.epochs):
            rate = self.learning_rate(epoch)
            set_learning_rate(optimizer, rate)
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, epoch),
                loss=label_loss,
                optimizer=optimizer,
                edit_gradients=edit,
                notes={"lr": rate, "redrawn_weights": drawn},
            )

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the weights of the layers that the method treats, by name."""
        kinds = (nn.Conv2d, nn.Linear) if self.linear else (nn.Conv2d,)
        found: dict[str, Tensor] = {
            f"{name}.weight": module.weight
            for name, module in model.named_modules()
            if isinstance(module, kinds)
        }
        if not found:
            raise MethodError(
                "msg has no weights to draw anew: this network has no convolution",
                where="msg",
                nearest="{name: msg, linear: true}",
                next_command="lotus-ray list methods",
            )
        return found


def _kept(problem: Problem, weights: Sequence[Tensor], fraction: float) -> list[Tensor]:
    """Return masks of the weights that stay: all but the `fraction` of smallest |g| in a layer."""
    partners = problem.retain.draw(len(problem.forget), "msg")
    pairs = zip(
        _gradient(problem, weights, partners),
        _gradient(problem, weights, problem.forget),
        strict=True,
    )
    sizes = [problem.workers.sum(retained - forgotten).abs_() for retained, forgotten in pairs]
    return [largest([each], each.numel() - round(fraction * each.numel()))[0] for each in sizes]


def _gradient(problem: Problem, weights: Sequence[Tensor], samples: SampleSet) -> list[Tensor]:
    """Return this worker's share of Σ_batches ∇CE, in eval mode, for each weight."""
    problem.model.eval()
    total = [torch.zeros_like(weight) for weight in weights]
    for batch in samples.shuffled(problem.batch_size, "msg gradient"):
        for sum_, share in zip(total, label_gradient(problem, batch, weights), strict=True):
            sum_ += share
    return total


@torch.no_grad()
def _draw_anew(weight: Tensor, mask: Tensor, *names: object) -> None:
    """Draw the weights in a mask from the normal distribution of variance 2/fan_out, in place.

    (names, position in the weight) decide each number.
    """
    positions = mask.flatten().nonzero()[:, 0]
    drawn = normal(seeds.uniform(positions, 1, *names)[:, 0])
    fan_out = weight.numel() // weight.shape[1]
    weight[mask] = (drawn * math.sqrt(2 / fan_out)).to(weight)


def _scale_gradients(
    weights: Sequence[Tensor], masks: Sequence[Tensor], scale: float
) -> Callable[[nn.Module], None]:
    """Return an edit that multiplies the gradients of weights inside masks."""
    factors = [
        torch.ones_like(weight).masked_fill_(mask, scale)
        for weight, mask in zip(weights, masks, strict=True)
    ]

    def edit(model: nn.Module) -> None:
        for weight, factor in zip(weights, factors, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(factor)

    return edit
