"""The small problems that formulas are computed on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from lotus_ray.base import seeds
from lotus_ray.base.roles import FORGET, RETAIN
from lotus_ray.bench.formulas.linear import label_gradient, start
from lotus_ray.bench.formulas.optimizers import Sgd
from lotus_ray.bench.generated import Sizes, Stage, generate
from lotus_ray.models.precision import use_precision
from lotus_ray.unlearning.forward_counter import ForwardCounter

PIXELS, CLASSES, CHANNELS = 4, 3, 4
NOISE = 127  # images of a class have nothing in common: the original is wrong on unseen ones
SIZES = Sizes(
    model="",
    options={},
    img_size=PIXELS,
    classes=CLASSES,
    forget=8,
    retain=16,
    unseen=8,
    test=1,
    batch_size=8,
)
TRAINING_STEPS = 20  # of the linear original


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * PIXELS**2, CLASSES))


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(CHANNELS * PIXELS**2, CLASSES),
    )


@cache
def linear_stage() -> Stage:
    """Return a stage whose network is linear; its original has learned part of its images."""
    stage = _stage(_linear)
    problem = stage.problem(ForwardCounter())
    [batch] = stage.dataset.split(FORGET, RETAIN)
    weights, sgd = start(problem), Sgd(lr=0.1)
    for _ in range(TRAINING_STEPS):
        weights = sgd.step(weights, label_gradient(weights, batch))
    for value, trained in zip(stage.original.parameters(), weights, strict=True):
        value.copy_(trained)
    return stage.compute_logits()


@cache
def convolutional_stage() -> Stage:
    """Return a stage whose network has a convolution before its linear layer."""
    return _stage(_convolutional).compute_logits()


def _stage(network: Callable[[], nn.Module]) -> Stage:
    """Return a stage of untrained networks, in float64 on the CPU."""
    device = torch.device("cpu")
    use_precision("fp64", device)
    networks = []
    with torch.random.fork_rng(devices=[]):
        for name in ("initial weights", "random weights"):
            torch.manual_seed(seeds.seed_for("formulas", name))
            networks.append(network().to(device, torch.float64).eval().requires_grad_(False))
    return Stage(SIZES, generate(SIZES, device, precision="fp64", noise=NOISE), *networks)
