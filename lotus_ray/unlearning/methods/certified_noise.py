"""Certified noisy fine-tuning: the one row with a proof of how much can be left of D_f."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.noise import clip_weights, normal_like
from lotus_ray.unlearning.methods.supervised import label_loss
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import Scheduled, one_cycle


@dataclass(frozen=True)
class CertifiedNoise(Method):
    """Clip θ to norm C0, take T steps θ ← θ − γ·(clip_C1(g) + λ·θ) + N(0, σ²), then fine-tune.

    g is the gradient of CE on a batch of D_r; clips are of the L2 norm of all weights together. For
    weights that started from any two clipped originals, the Rényi divergence of order α is at most
    α·ε_R: see `sigma`. So the result is (ε, δ)-indistinguishable from the same run on a model that
    never saw D_f; the notes state ε and δ. Fine-tuning on D_r without noise loses nothing of that.
    Batch statistics start anew after the last noisy step, as those of before are not noised: give
    fine-tuning some dozens of steps to find them.

    The proof takes the noise as unknown. It follows from the job's seed: keep that to yourself.

    Args:
        epochs: of fine-tuning without noise.
        lr: highest learning rate of fine-tuning, which rises and falls in one cycle.
        weight_decay: of fine-tuning.
        model_clip: C0.
        gradient_clip: C1.
        noise_lr: γ.
        shrink: λ; γ·λ is at most 1.
        renyi: ε_R.
        delta: δ.
        noise_steps: T; 0 takes the authors' choice: see `steps`.

    Source: Koloskova et al. 2025 (ICML), gradient clipping, and their code's defaults. Deviation:
    for λ = 0 their code takes half of this variance, for which the bound is 2·α·ε_R. ε is
    ε_R + 2·√(ε_R·ln(1/δ)), where their code holds ε_R for all orders α. Their networks have no
    batch normalisation.
    """

    name: ClassVar[str] = "certified_noise"
    label: ClassVar[str] = "Certified noise"
    positive: ClassVar[tuple[str, ...]] = ("model_clip", "gradient_clip", "noise_lr", "renyi")
    maskable: ClassVar[bool] = False  # weights that are given back prove nothing

    epochs: int = 50
    lr: float = 0.1
    weight_decay: float = 5e-4
    model_clip: float = 0.1
    gradient_clip: float = 100.0
    noise_lr: float = 0.1
    shrink: float = 1.0
    renyi: float = 10.0
    delta: float = 1e-5
    noise_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.delta < 1:
            raise MethodError("certified_noise: delta must be between 0 and 1", where="delta")
        if self.noise_lr * self.shrink > 1:
            raise MethodError(
                "certified_noise: noise_lr · shrink must be at most 1, or nothing is proved",
                where="shrink",
            )

    @property
    def steps(self) -> int:
        """T: ⌈C0/(C1·γ)⌉, or ⌈ln(2·λ·C0/C1)/(γ·λ)⌉ where that is less and not below 1."""
        if self.noise_steps:
            return self.noise_steps
        steps = math.ceil(self.model_clip / (self.gradient_clip * self.noise_lr))
        if self.shrink:
            ratio = 2 * self.shrink * self.model_clip / self.gradient_clip
            fewer = math.ceil(math.log(ratio) / (self.noise_lr * self.shrink))
            steps = min(steps, fewer) if fewer >= 1 else steps
        return steps

    @property
    def sigma(self) -> float:
        """σ: the noise for which the divergence of order α is at most α·ε_R.

        With c = 1 − γ·λ, two runs that meet the same batches drift apart by z ← c·z + 2·γ·C1 from
        z = 2·C0 at most. Noise of σ hides a part a_t of it at the price α·a_t²/(2·σ²), Feldman et
        al. 2018. All of it is hidden by a_t ∝ c^(T−t), at the price α·S²/(2·σ²·G), with
        S = 2·C0·c^T + 2·γ·C1·Σ_{k<T} c^k and G = Σ_{k<T} c^(2k): that is the least one.
        """
        kept = 1 - self.noise_lr * self.shrink
        powers = [kept**k for k in range(self.steps)]
        drift = 2 * self.noise_lr * self.gradient_clip * sum(powers)
        total = 2 * self.model_clip * kept**self.steps + drift
        return total / math.sqrt(2 * self.renyi * sum(power**2 for power in powers))

    @property
    def epsilon(self) -> float:
        """ε: the least over α of α·ε_R + ln(1/δ)/(α − 1), Mironov 2017."""
        return self.renyi + 2 * math.sqrt(self.renyi * math.log(1 / self.delta))

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield the noisy steps, at most a pass over D_r a phase, then a phase per epoch."""
        model, size = problem.model, problem.batch_size
        notes = {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "sigma": self.sigma,
            "noise_steps": float(self.steps),
        }
        clip_weights(model, self.model_clip)
        in_pass = math.ceil(len(problem.retain) / size)
        noisy = _Noisy(self, problem)
        for turn, start in enumerate(range(0, self.steps, in_pass)):
            batches = problem.retain.shuffled(size, self.name, "noisy", turn)
            yield Phase(
                batches=noisy.counted(islice(batches, self.steps - start), start),
                loss=label_loss,
                optimizer=noisy.optimizer,
                edit_gradients=noisy.clip,
                notes=notes,
            )
        _reset_statistics(model)
        optimizer = SGD(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        rate = partial(one_cycle, steps=self.epochs * in_pass, highest=self.lr)
        for epoch in range(self.epochs):
            batches = problem.retain.shuffled(size, self.name, epoch)
            yield Phase(
                batches=Scheduled(batches, optimizer, rate, epoch * in_pass),
                loss=label_loss,
                optimizer=optimizer,
                notes=notes,
            )


class _Noisy:
    """The noisy steps of one run. Every worker adds the same noise."""

    def __init__(self, method: CertifiedNoise, problem: Problem) -> None:
        self._method, self._problem, self._step = method, problem, 0
        parameters = problem.model.parameters()
        self.optimizer = SGD(parameters, lr=method.noise_lr, weight_decay=method.shrink, fused=True)
        self.optimizer.register_step_post_hook(self._add_noise)

    def counted(self, batches: Iterable[Batch], start: int) -> Iterator[Batch]:
        """Yield batches, each before its own step; the first step has the number `start`."""
        for step, batch in enumerate(batches, start):
            self._step = step
            yield batch

    def clip(self, model: nn.Module) -> None:
        """Clip the gradient to C1.

        A parameter that takes no part in the output gets a gradient of 0: it has to shrink like the
        others, or its noise would not hide what it was.
        """
        for value in model.parameters():
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        torch.nn.utils.clip_grad_norm_(model.parameters(), self._method.gradient_clip)

    @torch.no_grad()
    def _add_noise(self, *_: Any) -> None:
        names = (self._problem.seed, self._method.name, self._step)
        for name, value in self._problem.model.named_parameters():
            value.add_(normal_like(value, *names, name), alpha=self._method.sigma)


def _reset_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.reset_running_stats()
