"""A GPU at the size of the paper's largest benchmark, on generated images.

Needs torch, timm and scikit-learn; neither Ray nor pydantic: `python -m lotus_ray.bench.gpu`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import AdamW

from lotus_ray.base.roles import RETAIN
from lotus_ray.bench.generated import Sizes, Stage, build
from lotus_ray.bench.precisions import compared
from lotus_ray.bench.scoreboard import Figure, medians, seconds_of, to_plain, to_table
from lotus_ray.bench.unlearning import evaluated
from lotus_ray.metrics.summary import summarise
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.problem import Problem

# Dense bfloat16 by torch's name of the device, FLOP/s, from its maker's data sheet. A device that
# is not here has no such figure: nothing is derived from names that are merely alike.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H200": 989.5e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
}
MFU, CACHE, EVALUATION_SECONDS, LOTUS_SECONDS = 0.40, 0.98, 12.0, 20.0


@dataclass(frozen=True)
class Scale:
    """What to measure on: samples, how many steps, and what a forward of an image costs."""

    sizes: Sizes
    steps: int
    epochs: int
    forward_flop: float


# 50 forget and retain images a class, as many held out: 100,000. Of them 4,000 exist, 600 MB; the
# others repeat them, so that no machine has to hold 15 GB.
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
    """So many steps on batches that are given, by fused AdamW."""

    name: ClassVar[str] = "training"
    label: ClassVar[str] = "Training"

    batches: Iterable[Batch] = ()

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase."""
        optimizer = AdamW(problem.model.parameters(), lr=1e-4, fused=True)
        yield Phase(batches=self.batches, loss=_loss, optimizer=optimizer)


def _loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return batch.mean(cross_entropy(model(batch.images), batch.labels))


Found = tuple[dict[str, Figure], dict[str, float], list[str]]


def measure(repeats: int, device: torch.device, scale: Scale = HEADLINE) -> Found:
    """Measure G1 to G4, and bf16 beside fp32.

    Args:
        repeats: of each measurement, after one that warms up.
        device: the GPU.
        scale: of everything; the default is the paper's ImageNet benchmark with ViT-B/16.

    Returns:
        Figures by scoreboard id, rates by name, and what could not be said.
    """
    stage = build(scale.sizes, device, precision="bf16").compute_logits()
    seconds = medians(
        repeats,
        resident=lambda: seconds_of(lambda: _train_on_one_batch(stage, scale.steps)),
        cached=lambda: seconds_of(lambda: _train_from_cache(stage, scale.steps)),
        evaluation=lambda: _drained(device, lambda: _evaluate(stage)),
        lotus=lambda: _drained(device, lambda: _lotus(stage, scale.epochs)),
    )
    images = scale.steps * scale.sizes.batch_size
    flops = 3 * scale.forward_flop * images / seconds["resident"]
    figures, notes = _utilisation(flops, device, repeats)
    figures["G2"] = Figure(
        "training from the cache of decoded images ÷ on resident images",
        seconds["resident"] / seconds["cached"],
        CACHE,
        True,
        repeats,
    )
    figures["G3"] = Figure(
        f"seconds of evaluating {scale.sizes.samples} images with all metrics",
        seconds["evaluation"],
        EVALUATION_SECONDS,
        False,
        repeats,
    )
    figures["G4"] = Figure(
        f"seconds of LoTUS, {scale.epochs} epochs", seconds["lotus"], LOTUS_SECONDS, False, repeats
    )
    rates = {
        "training, images/s": images / seconds["resident"],
        "training, TFLOP/s": flops / 1e12,
        **compared(device),
    }
    notes.append("G5, the grid of ten rows, is the line `cells filled` of `lotus-ray grid`")
    return figures, rates, notes


def _utilisation(
    flops: float, device: torch.device, repeats: int
) -> tuple[dict[str, Figure], list[str]]:
    """Return G1, or why there is none."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    if name not in PEAKS:
        return {}, [f"G1: the peak of {name} is not known here, so that there is no ratio to it"]
    about = "model FLOP utilisation of training in bfloat16"
    return {"G1": Figure(about, flops / PEAKS[name], MFU, True, repeats)}, []


def _train_on_one_batch(stage: Stage, steps: int) -> None:
    batch = next(iter(stage.dataset.split(RETAIN).shuffled(stage.sizes.batch_size, "bench")))
    _train(stage, [batch] * steps)


def _train_from_cache(stage: Stage, steps: int) -> None:
    split = stage.dataset.split(RETAIN)
    few = replace(split, rows=split.rows[: steps * stage.sizes.batch_size])
    _train(stage, few.shuffled(stage.sizes.batch_size, "bench"))


def _train(stage: Stage, batches: Iterable[Batch]) -> None:
    with ForwardCounter().counting() as forwards:
        unlearn(_Training(batches=batches), stage.problem(forwards))


def _evaluate(stage: Stage) -> None:
    outputs = evaluated(stage)
    summarise(outputs, outputs)


def _lotus(stage: Stage, epochs: int) -> None:
    """Run all epochs: LoTUS would stop where the student is as inaccurate as on unseen images."""
    with ForwardCounter().counting() as forwards:
        unlearn(Lotus(epochs=epochs, class_unlearning=True), stage.problem(forwards))


def _drained(device: torch.device, work: Callable[[], None]) -> float:
    def drained() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return seconds_of(drained)


def main(arguments: list[str]) -> int:
    """Measure and print; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m lotus_ray.bench.gpu", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: G1 to G4 need a CUDA GPU, and here is none", file=sys.stderr)
        return 2
    found = measure(options.repeats, torch.device("cuda"))
    plain: dict[str, Any] = to_plain(*found)
    print(json.dumps(plain, indent=1) if options.json else to_table(*found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
