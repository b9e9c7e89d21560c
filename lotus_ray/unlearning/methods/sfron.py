"""SFRon: ascend on the forget set with the weights that matter to it, and repair in between."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.endless import endless
from lotus_ray.unlearning.methods.gradients import batch_fisher
from lotus_ray.unlearning.methods.supervised import sgd
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import cosine, set_learning_rate

TINY = 1e-15  # of the authors: keeps quotients finite


@dataclass(frozen=True)
class Sfron(Method):
    """Take `steps` steps on D_r, and before every `ascend_every`-th an ascent step on D_f.

    Ascent at step t minimises −α·s_t·Σ_i w_i·CE_i / Σ_i w_i over a batch of D_f, with
    w_i = CE_i^−λ held fixed. Its gradient is set to 0 where F_f < γ·F_r, and then clipped. F_f and
    F_r are the diagonal of the empirical Fisher matrix over D_f and D_r, at the original. A repair
    step minimises CE over a batch of D_r. s_t = (1 + cos(π·t/`steps`)) / 2 also scales `lr`.

    Args:
        steps: repair steps.
        lr: highest learning rate, of both kinds of steps.
        momentum: of SGD.
        weight_decay: of either optimizer.
        optimizer: "sgd", or "adamw" as the authors use for Tiny-ImageNet.
        alpha: α, weight of the ascent.
        exponent: λ: 0 weighs all images alike; larger values leave forgotten images in peace.
        threshold: γ.
        max_norm: largest L2 norm of the gradient of an ascent step.
        ascend_every: repair steps for each ascent step.

    Source: Huang et al. 2024 (NeurIPS), and their code's defaults for CIFAR-10. Deviation: their
    slow average of weights has β = 1, which changes nothing, and is left out. As in their code,
    Fisher squares the gradient of a batch and not of a sample, and momentum and weight decay move
    masked weights in ascent steps. Each pass over D_r starts a new cycle over D_f. No images are
    augmented.
    """

    name: ClassVar[str] = "sfron"
    label: ClassVar[str] = "SFRon"
    positive: ClassVar[tuple[str, ...]] = ("steps", "ascend_every")

    steps: int = 1500
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: str = "sgd"
    alpha: float = 25.0
    exponent: float = 0.5
    threshold: float = 1.0
    max_norm: float = 7.0
    ascend_every: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in ("sgd", "adamw"):
            raise MethodError(f"optimizer '{self.optimizer}' is neither sgd nor adamw")

    @property
    def mixes_images(self) -> bool:
        """Return True: the weights of an ascent step add up to 1 over its batch."""
        return True

    @property
    def weight_copies(self) -> float:
        """Return 3: two Fisher matrices and a gradient, which is more than the steps need."""
        return 3.0

    def scale(self, step: int) -> float:
        """Return s_t, from 1 at the first step towards 0."""
        return cosine(step, self.steps, 1.0)

    def phases(self, problem: Problem) -> Iterator[Phase[Step]]:
        """Yield a phase for each pass over the retain set; the last may be cut short."""
        masks = self._masks(problem)
        run = _Run(self, problem, self._optimizer(problem.model), masks)
        selected = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
        in_pass = math.ceil(len(problem.retain) / problem.batch_size)
        for turn, start in enumerate(range(0, self.steps, in_pass)):
            yield Phase(
                batches=run.batches(turn, start),
                loss=run.loss,
                optimizer=run.optimizer,
                edit_gradients=run.mask_and_clip,
                split=_split,
                notes={"selected": selected},
            )

    def _masks(self, problem: Problem) -> list[Tensor]:
        """Return where F_f ≥ γ·F_r, for each parameter."""
        of_forget = batch_fisher(problem, problem.forget, self.name, "forget fisher")
        of_retain = batch_fisher(problem, problem.retain, self.name, "retain fisher")
        return [
            (forget + TINY) / (retain + TINY) >= self.threshold
            for forget, retain in zip(of_forget, of_retain, strict=True)
        ]

    def _optimizer(self, model: nn.Module) -> Optimizer:
        if self.optimizer == "adamw":
            return AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        return sgd(model, self)


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    batch: Batch
    index: int  # t
    ascent: bool  # True on the forget set


def _split(step: Step, most: int) -> list[Step]:
    """Split a step into parts, to see whether it would have any: see `Sfron.mixes_images`."""
    return [replace(step, batch=part) for part in step.batch.split(most)]


@dataclass
class _Run:
    """What the steps of one run share. `ascent` says of which kind the current one is."""

    method: Sfron
    problem: Problem
    optimizer: Optimizer
    masks: list[Tensor]
    ascent: bool = False

    def batches(self, turn: int, start: int) -> Iterator[Step]:
        """Yield the steps of one pass over the retain set."""
        method, size = self.method, self.problem.batch_size
        retained = self.problem.retain.shuffled(size, method.name, turn)
        forgotten = endless(self.problem.forget, size, method.name, "forget", turn)
        for index, batch in enumerate(islice(retained, method.steps - start), start):
            if index % method.ascend_every == 0:
                yield Step(next(forgotten), index, ascent=True)
            yield Step(batch, index, ascent=False)

    def loss(self, model: nn.Module, step: Step) -> Tensor:
        """Return the share of the loss of a step, whose learning rate is set here."""
        self.ascent = step.ascent
        scale = self.method.scale(step.index)
        set_learning_rate(self.optimizer, self.method.lr * scale)
        losses = cross_entropy(model(step.batch.images), step.batch.labels)
        if not step.ascent:
            return step.batch.mean(losses)
        weights = 1 / (losses.detach() ** self.method.exponent + TINY)
        total = self.problem.workers.sum(weights.sum())
        return -self.method.alpha * scale * (weights * losses).sum() / total

    def mask_and_clip(self, model: nn.Module) -> None:
        """Edit the gradients of an ascent step."""
        if not self.ascent:
            return
        for value, mask in zip(model.parameters(), self.masks, strict=True):
            if value.grad is not None:
                value.grad *= mask
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.method.max_norm)
