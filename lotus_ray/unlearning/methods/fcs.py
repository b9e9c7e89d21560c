"""FCS: flatten the answers to the forget set, then push them away from retain images and repair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from lotus_ray.unlearning.contract import Batch, Phase, Workers
from lotus_ray.unlearning.losses import kl_divergence
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.endless import endless
from lotus_ray.unlearning.methods.supervised import label_loss
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import Scheduled, cosine

Pair = tuple[Batch, Batch]  # forget rows, and the retain rows that they are compared with
_ROWS_OF_RATE = 64  # the retain learning rate is given for batches of so many rows


@dataclass(frozen=True)
class Fcs(Method):
    """Minimise KL(u ‖ s(z)) over D_f once; then, each epoch, a forget round and a retain round.

    u is uniform over the classes. Forget round: minimise the mean over i and j of
    −log softmax_j(z_i·z_j/τ), with forget rows i and retain rows j of the global batch; no gradient
    flows into z_j. Retain round: CE(f(x), y) over D_r.

    Args:
        epochs: rounds of each kind.
        lr: learning rate of SGD in the pass that flattens.
        forget_lr: of SGD in the first forget step. It follows a half cosine, step by step.
        last_forget_lr: after the last forget step.
        retain_lr: of SGD in the retain rounds, for 64 rows: times the batch size / 64.
        momentum: of all three.
        retain_weight_decay: of the retain rounds; the others have none.
        temperature: τ.
        contrast_batch_size: retain rows of a forget step.

    Source: first place of the NeurIPS 2023 unlearning challenge (Fanchuan); Cadet et al. 2024 (Deep
    Unlearn). Deviation: the released code names its first loss symmetric, but it is KL(u ‖ s(z)),
    as here. D_r starts again when a forget round has used all of it, where theirs ends the round.
    Forget and retain batches have the job's size, theirs have 64 and 256.
    """

    name: ClassVar[str] = "fcs"
    label: ClassVar[str] = "FCS"
    positive: ClassVar[tuple[str, ...]] = ("temperature", "contrast_batch_size")

    epochs: int = 8
    lr: float = 5e-3
    forget_lr: float = 3e-4
    last_forget_lr: float = 1e-6
    retain_lr: float = 1e-3
    momentum: float = 0.9
    retain_weight_decay: float = 1e-2
    temperature: float = 1.15
    contrast_batch_size: int = 256

    @property
    def weight_copies(self) -> float:
        """Return 3: the momentum of three optimizers."""
        return 3.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch] | Phase[Pair]]:
        """Yield the pass that flattens, then two phases per epoch: forget, retain."""
        size = problem.batch_size
        yield Phase(
            batches=problem.forget.shuffled(size, self.name, "flatten"),
            loss=_flatten,
            optimizer=self._optimizer(problem, self.lr),
        )
        forget_optimizer = self._optimizer(problem, self.forget_lr)
        retain_optimizer = self._optimizer(
            problem, self.retain_lr * size / _ROWS_OF_RATE, self.retain_weight_decay
        )
        steps = math.ceil(len(problem.forget) / size)
        for epoch in range(self.epochs):
            pairs = zip(
                problem.forget.shuffled(size, self.name, "forget", epoch),
                endless(problem.retain, self.contrast_batch_size, "fcs contrast", epoch),
                strict=False,
            )
            yield Phase(
                batches=Scheduled(pairs, forget_optimizer, self._forget_rate(steps), epoch * steps),
                loss=_contrast(problem.workers, self.temperature),
                optimizer=forget_optimizer,
                split=_split_forgotten,
            )
            yield Phase(
                batches=problem.retain.shuffled(size, self.name, "retain", epoch),
                loss=label_loss,
                optimizer=retain_optimizer,
            )

    def _optimizer(self, problem: Problem, lr: float, weight_decay: float = 0.0) -> SGD:
        weights = problem.model.parameters()
        return SGD(weights, lr=lr, momentum=self.momentum, weight_decay=weight_decay, fused=True)

    def _forget_rate(self, steps: int) -> Callable[[int], float]:
        """Return the learning rate by number of the forget step, with so many in an epoch."""
        total = self.epochs * steps
        return lambda step: cosine(step, total, self.forget_lr, self.last_forget_lr)


def _split_forgotten(pair: Pair, most: int) -> list[Pair]:
    """Split the forget rows of a step; each is compared with all its retain rows."""
    forgotten, retained = pair
    return [(part, retained) for part in forgotten.split(most)]


def _flatten(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch.images)
    uniform = torch.full_like(logits, 1 / logits.shape[1])
    return batch.mean(kl_divergence(uniform, logits))


def _contrast(workers: Workers, temperature: float) -> Callable[[nn.Module, Pair], Tensor]:
    """Return the loss of a forget step."""

    def loss(model: nn.Module, pair: Pair) -> Tensor:
        forgotten, retained = pair
        logits = model(forgotten.images)
        with torch.no_grad():
            partners = _gathered(workers, retained, model(retained.images))
        similar = logits @ partners.T / temperature
        return forgotten.mean(-functional.log_softmax(similar, dim=1).mean(dim=1))

    return loss


def _gathered(workers: Workers, batch: Batch, logits: Tensor) -> Tensor:
    """Return the logits [total, C] of a global batch, from this worker's rows [N, C]."""
    if workers.size == 1:
        return logits
    everyone = logits.new_zeros(batch.total, logits.shape[1])
    everyone[workers.rank :: workers.size] = logits
    return workers.sum(everyone)
