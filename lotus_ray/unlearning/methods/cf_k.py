"""CF-k: fine-tune the last k blocks on the retain set, and wait for D_f to be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.methods.last_blocks import LastBlocks
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class CfK(LastBlocks):
    """Fine-tune the last k blocks of the original on D_r; the others stay as they are.

    Source: Goel et al. 2022, catastrophic forgetting of the last k layers. Deviation: k counts
    blocks, where the authors count convolutions and linear layers. Frozen blocks stay in eval mode,
    as in the code of Goel et al. 2024; other codes, such as SCRUB's, let their batch statistics
    follow D_r. The learning rate is constant, and no images are augmented.
    """

    name: ClassVar[str] = "cf_k"
    label: ClassVar[str] = "CF-k"
    version: ClassVar[int] = 2  # a dropout between frozen layers is off, wherever it stands

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        yield from self.train(problem)
