"""The work that is timed on a GPU, at the size of the paper's largest benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from lotus_ray.base.roles import RETAIN
from lotus_ray.bench.generated import Sizes, Stage
from lotus_ray.bench.timing import seconds_of
from lotus_ray.bench.unlearning import evaluated
from lotus_ray.metrics.summary import summarise
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Scale:
    """The amount of work that is timed."""

    sizes: Sizes
    steps: int  # of training
    epochs: int  # of LoTUS
    forward_flop: float  # FLOP of one image's forward


# 100,000 samples: 50 forget and retain images per class, and as many held out. They share 4,000
# images, which need 600 MB: 100,000 images would need 15 GB.
HEADLINE = Scale(
    Sizes(
        model="vit_base_patch16_224",
        options={},
        img_size=224,
        classes=1000,
        forget=5,
        retain=45,
        unseen=25,
        test=25,
        batch_size=256,
        unique=4000,
    ),
    steps=40,
    epochs=3,
    forward_flop=35.1e9,  # 17.56 G multiply-adds
)


@dataclass(frozen=True)
class _Training(Method):
    """One step of fused AdamW per batch."""

    name: ClassVar[str] = "training"
    label: ClassVar[str] = "Training"

    batches: Iterable[Batch] = ()

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase."""
        optimizer = AdamW(problem.model.parameters(), lr=1e-4, fused=True)
        yield Phase(batches=self.batches, loss=_loss, optimizer=optimizer)


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return batch.mean(cross_entropy(model(batch.images), batch.labels))


def train_on_one_batch(stage: Stage, steps: int) -> None:
    """Train `steps` steps on one batch that stays on the device."""
    batch = next(iter(stage.dataset.split(RETAIN).shuffled(stage.sizes.batch_size, "bench")))
    _train(stage, [batch] * steps)


def train_from_cache(stage: Stage, steps: int) -> None:
    """Train `steps` steps on batches from the cache of decoded images."""
    retain = stage.dataset.split(RETAIN)
    part = replace(retain, rows=retain.rows[: steps * stage.sizes.batch_size])
    _train(stage, part.shuffled(stage.sizes.batch_size, "bench"))


def _train(stage: Stage, batches: Iterable[Batch]) -> None:
    with ForwardCounter().counting() as forwards:
        unlearn(_Training(batches=batches), stage.problem(forwards))


def evaluate_all(stage: Stage) -> None:
    """Evaluate all samples with all metrics."""
    outputs = evaluated(stage)
    summarise(outputs, outputs)


def run_lotus(stage: Stage, epochs: int) -> None:
    """Run all epochs of LoTUS: as class unlearning, or it would stop early here."""
    with ForwardCounter().counting() as forwards:
        unlearn(Lotus(epochs=epochs, class_unlearning=True), stage.problem(forwards))


def synchronised_seconds(device: torch.device, work: Callable[[], None]) -> float:
    """Return the wall seconds of some work, until the GPU has done it."""

    def synchronised() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return seconds_of(synchronised)
