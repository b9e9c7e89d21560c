"""DELETE: imitate, on the forget set, the original with the true class ruled out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import kl_divergence, without_label
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import sgd
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Delete(Method):
    """Minimise KL(q ‖ s(z)) over D_f alone, where q = s(z₀ with −∞ at the true class).

    z₀ are the original's logits: q keeps the ratios of all other classes. The method is made for
    forgetting whole classes. For samples of classes that stay it falls far below the gold standard
    on D_f, because no class is allowed its own images.

    Args:
        epochs: passes over the forget set.
        lr: learning rate of SGD: 1e-4 for ResNet-18 on CIFAR-10, 5e-5 elsewhere.
        momentum: of SGD.
        weight_decay: of SGD.

    Source: Zhou et al. 2025 (DELETE, CVPR). Deviation: the authors' code writes −1e10 in place of
    −∞, which gives the same q in float32. The batch size is the job's, theirs is 128.
    """

    name: ClassVar[str] = "delete"
    label: ClassVar[str] = "DELETE"

    epochs: int = 20
    lr: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 0.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        problem.original_logits.compute_missing(problem.forget)
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            yield Phase(
                batches=problem.forget.shuffled(problem.batch_size, self.name, epoch),
                loss=_loss(problem),
                optimizer=optimizer,
            )


def _loss(problem: Problem) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        others = without_label(problem.original_logits(batch), batch.labels)
        targets = functional.softmax(others, dim=1)
        return batch.mean(kl_divergence(targets, model(batch.images)))

    return loss
