"""CT: transpose the kernels of all convolutions, then train on the retain set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import cosine, set_learning_rate


@dataclass(frozen=True)
class Ct(Method):
    """Swap height and width of every convolution's kernel, then minimise CE(f(x), y) over D_r.

    A kernel of 1×1 stays as it is. The learning rate follows a half cosine, epoch by epoch.

    Args:
        epochs: passes over the retain set.
        lr: learning rate of SGD in the first epoch.
        momentum: of SGD.
        weight_decay: of SGD.

    Source: fifth place of the NeurIPS 2023 unlearning challenge; Convolution Transpose in Cadet et
    al. 2024 (Deep Unlearn). Deviation: kernels that are not square stay as they are, where the
    released code swaps their sides and so changes what padding they need. The batch size is the
    job's, theirs is 64.
    """

    name: ClassVar[str] = "ct"
    label: ClassVar[str] = "CT"

    epochs: int = 3
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Transpose the kernels, then yield one phase per epoch.

        Raises:
            MethodError: the network has no kernel that a transposition changes.
        """
        kernels = transpose_kernels(problem.model)
        if not kernels:
            raise MethodError(
                "ct changes nothing: no convolution of this network has a square kernel above 1×1",
                where="ct",
                nearest="finetune, which ct would equal",
                next_command="lotus-ray list methods",
            )
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            rate = cosine(epoch, self.epochs, self.lr)
            set_learning_rate(optimizer, rate)
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, epoch),
                loss=label_loss,
                optimizer=optimizer,
                notes={"lr": rate, "transposed_kernels": kernels},
            )


@torch.no_grad()
def transpose_kernels(model: nn.Module) -> int:
    """Swap height and width of all square kernels above 1×1, in place; return how many layers."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] == module.kernel_size[1] > 1
    ]
    for layer in layers:
        layer.weight.copy_(layer.weight.transpose(2, 3).clone())
    return len(layers)
