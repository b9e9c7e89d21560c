"""SalUn: let another method change only the weights that matter most to the forget set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.gradients import gradient_share
from lotus_ray.unlearning.methods.selection import largest
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Salun(Method):
    """Run an inner method in which weights outside the mask keep the original's values.

    The mask holds the `density` of all weights with the largest |Σ_batches ∇CE(D_f)|, at the
    original in eval mode. After each step, and after each edit of the inner method, all other
    weights are restored.

    Args:
        density: part of the weights that may change: .1 in the comparison, .5 by the authors.
        inner: the method that trains; Rnd Labeling in the published tables. Reports call another
            one by its name: SalUn + LoTUS.

    Source: Fan et al. 2024; defaults of Spartalis et al. 2025. Deviation: weights outside the mask
    do not move at all; masking the gradient alone lets momentum and weight decay move them. The
    code of the comparison masks passes over D_f and lets all weights move in passes over D_r.
    """

    name: ClassVar[str] = "salun"
    label: ClassVar[str] = "SalUn"
    maskable: ClassVar[bool] = False
    default_inner: ClassVar[Callable[[], Method]]  # set where methods are registered

    density: float = 0.1
    inner: Method = field(default_factory=lambda: Salun.default_inner())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.inner.maskable:
            raise MethodError(
                f"{self.name} cannot wrap {self.inner.name}",
                where="inner",
                nearest="one of the methods that unlearn, such as relabel",
                next_command="lotus-ray list methods",
            )

    @property
    def title(self) -> str:
        """Return SalUn, or SalUn + LoTUS for another inner method than the published one."""
        usual = self.inner.name == Salun.default_inner().name
        return self.label if usual else f"{self.label} + {self.inner.title}"

    @property
    def mixes_images(self) -> bool:
        """Return what the inner method says."""
        return self.inner.mixes_images

    @property
    def batches_held(self) -> int:
        """Return what the inner method says."""
        return self.inner.batches_held

    @property
    def weight_copies(self) -> float:
        """Return what the inner method says, and masks."""
        return self.inner.weight_copies + 0.25

    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        """Yield the phases of the inner method, with masked optimizers."""
        masks = saliency_masks(problem, self.density)
        originals = list(problem.original.parameters())
        hooked: set[int] = set()

        def restore(*_: Any) -> None:
            with torch.no_grad():
                for value, mask, original in zip(
                    problem.model.parameters(), masks, originals, strict=True
                ):
                    torch.where(mask, value, original, out=value)

        for phase in self.inner.phases(problem):
            restore()  # the inner method may have edited weights
            if id(phase.optimizer) not in hooked:
                phase.optimizer.register_step_post_hook(restore)
                hooked.add(id(phase.optimizer))
            yield phase
        restore()


def saliency_masks(problem: Problem, density: float) -> list[Tensor]:
    """Select the weights with the largest |Σ_batches ∇CE(D_f)|.

    Args:
        problem: its model has the original's weights, and is put in eval mode.
        density: part of all weights, over all parameters together.

    Returns:
        bool tensors in the order and shapes of the parameters. Exactly round(density · weights)
        entries are True; of equal values the first ones.

    Source: Fan et al. 2024, eq. 4, with the threshold that selects `density` of the weights, as the
    authors' code takes it. Deviation: their code cuts the number of weights off to a whole one.
    """
    total = [torch.zeros_like(value) for value in problem.model.parameters()]
    for batch in problem.forget.shuffled(problem.batch_size, "salun mask"):
        for sum_, share in zip(total, gradient_share(problem, batch), strict=True):
            sum_ += share
    magnitudes = [problem.workers.sum(sum_).abs_() for sum_ in total]
    return largest(magnitudes, round(density * sum(sum_.numel() for sum_ in total)))
