"""Training of the last k blocks on the retain set, which CF-k and EU-k share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class LastBlocks(Method):
    """Minimise CE(f(x), y) over D_r with the parameters of the last k blocks alone.

    The other blocks are frozen: no gradient, no weight decay, and they stay in eval mode, so that
    their batch statistics are those of the original and their dropout is off. A dropout goes with
    the layer after it. `Problem.blocks` says what a block is: the last one holds the head.

    Args:
        k: number of blocks that train, at most all of them.
        epochs: passes over the retain set.
        lr: learning rate of SGD; the authors search it from .0001 to .1.
        momentum: of SGD.
        weight_decay: of SGD.
    """

    positive: ClassVar[tuple[str, ...]] = ("k",)

    k: int = 1
    epochs: int = 10
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def last_names(self, problem: Problem) -> set[str]:
        """Return the names of the parameters of the last k blocks.

        Raises:
            MethodError: the network has fewer blocks.
        """
        count = len(problem.blocks)
        if self.k > count:
            what = f"{self.name}: k is {self.k}, and this network has {count} blocks"
            raise MethodError(what, where="k", nearest=f"k: {count}")
        return {name for block in problem.blocks[-self.k :] for name in block}

    def train(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Freeze the other blocks, and yield one phase per epoch."""
        names = self.last_names(problem)
        for name, value in problem.model.named_parameters():
            value.requires_grad_(name in names)
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, epoch),
                loss=label_loss,
                optimizer=optimizer,
                set_mode=_freeze,
            )


def _freeze(model: nn.Module) -> None:
    """Put frozen modules in eval mode, in each phase: workers may have replaced modules."""
    for module in _frozen(model):
        module.eval()


def _frozen(model: nn.Module) -> list[nn.Module]:
    """Return the modules none of whose parameters trains.

    A module without parameters goes with the next one that has some of its own.
    """
    frozen = []
    next_trains = True
    for module in reversed(list(model.modules())):  # a module comes after what it holds
        own = [value.requires_grad for value in module.parameters(recurse=False)]
        next_trains = any(own) if own else next_trains
        trains = [value.requires_grad for value in module.parameters()]
        if not (any(trains) if trains else next_trains):
            frozen.append(module)
    return frozen
