"""JiT: make the model answer alike around each forget image, without any retain image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.noise import normal
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Jit(Method):
    """Minimise mean_j ‖f(x) − f(x + ξ_j)‖₂ / ‖ξ_j‖₂ over D_f, for `copies` noisy copies of x.

    f are logits, in eval mode. f(x + ξ_j) is held fixed: the gradient flows through f(x) alone.
    x + ξ_j is x plus normal noise of deviation σ in each value of the network's input, clamped to
    the range of pixels; (seed, pass, j, sample id) decide it.

    Args:
        passes: over D_f; a job's `epochs` leaves it as it is.
        lr: learning rate of SGD, on the mean over a batch. The gradient is about as large for each
            image, however little is left to smooth, and grows as images have fewer pixels. So too
            large a rate destroys the network: .001 does for images of 8×8, .01 for 32×32.
        momentum: of SGD. 1 adds up all gradients, as the authors' code does: it never zeroes them.
        sigma: σ; the authors take .5 for ViT.
        copies: noisy copies of each image.

    Source: Foster et al. 2024 (JiT), and their code. Deviation: the loss is a mean over the batch,
    where their code sums. Their lr for VGG16 is .0003 of that sum, which is .0384 of the mean over
    their 128 images: that left nothing of the networks tried here. The network is in eval mode,
    where their code leaves it in training mode: dropout and batch statistics add noise of their own
    there. Noise is clamped to valid pixels, where theirs is clamped to the range of the batch.
    """

    name: ClassVar[str] = "jit"
    label: ClassVar[str] = "JiT"
    positive: ClassVar[tuple[str, ...]] = ("passes", "sigma", "copies")

    passes: int = 1
    lr: float = 0.0003
    momentum: float = 0.0
    sigma: float = 0.01
    copies: int = 25

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per pass."""
        optimizer = SGD(problem.model.parameters(), lr=self.lr, momentum=self.momentum, fused=True)
        for turn in range(self.passes):
            yield Phase(
                batches=problem.forget.shuffled(problem.batch_size, self.name, turn),
                loss=self._loss(problem, turn),
                optimizer=optimizer,
                set_mode=_use_eval_mode,
            )

    def noisy(self, problem: Problem, batch: Batch, *names: object) -> Tensor:
        """Return images [N, 3, H, W] with noise, clamped to the range of pixels."""
        uniform = problem.uniform(batch, batch.images[0].numel(), self.name, *names)
        noise = (self.sigma * normal(uniform)).to(batch.images).view_as(batch.images)
        low, high = problem.pixel_range
        return (batch.images + noise).clamp(low, high)

    def _loss(self, problem: Problem, turn: int) -> Callable[[nn.Module, Batch], Tensor]:
        def loss(model: nn.Module, batch: Batch) -> Tensor:
            answer = model(batch.images)
            total = torch.zeros_like(answer[:, 0])
            for copy in range(self.copies):
                noisy = self.noisy(problem, batch, turn, copy)
                with torch.no_grad():
                    other = problem.model(noisy)
                    distance = (noisy - batch.images).flatten(1).norm(dim=1)
                # An image that clamping leaves as it was has no slope: 0 / tiny.
                distance = distance.clamp_min(torch.finfo(distance.dtype).tiny)
                total = total + (answer - other).norm(dim=1) / distance
            return batch.mean(total) / self.copies

        return loss


def _use_eval_mode(model: nn.Module) -> None:
    model.eval()
