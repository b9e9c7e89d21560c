"""EU-k: train the last k blocks anew on the retain set, so that these hold nothing of D_f."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.methods.last_blocks import LastBlocks
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class EuK(LastBlocks):
    """Give the last k blocks random weights, and train them on D_r; the others stay as they are.

    Weights and batch statistics are those of `Problem.random_model`, which was never trained:
    pretrained weights may have seen D_f.

    Source: Goel et al. 2022, exact unlearning of the last k layers. Deviation: as `CfK`.
    """

    name: ClassVar[str] = "eu_k"
    label: ClassVar[str] = "EU-k"
    version: ClassVar[int] = 2  # a dropout between frozen layers is off, wherever it stands

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        names = self.last_names(problem)
        layers = {_layer(name) for name in names}
        parameters = {name for name, _ in problem.model.named_parameters()}
        state = problem.model.state_dict()
        with torch.no_grad():
            for name, value in problem.random_model().state_dict().items():
                is_last = name in names if name in parameters else _layer(name) in layers
                if is_last:
                    state[name].copy_(value)
        yield from self.train(problem)


def _layer(name: str) -> str:
    """Return the name of the module that holds a parameter or a buffer."""
    return name.rpartition(".")[0]
