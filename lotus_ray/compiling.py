"""Whether networks are compiled while they train, and how."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from lotus_ray.problem import Workers

SAVED = 0.2  # of a step, at least, by torch.compile on the GPUs it is made for
COMPILE_SECONDS = 120.0  # of a network in training mode, for batches of two sizes


def pays(seconds_an_image: float, images_left: float) -> bool:
    """Return whether compiling saves more time than it takes.

    Args:
        seconds_an_image: of training so far, without compiling.
        images_left: that will be trained on, each time it is met.
    """
    return SAVED * seconds_an_image * images_left > COMPILE_SECONDS


def compiling(workers: Workers) -> Workers:
    """Return workers whose replicas are compiled: what trains, and not what is evaluated.

    Evaluation, teachers and gradients in eval mode are few passes, and each mode would be compiled
    anew.
    """

    def replicate(model: nn.Module) -> nn.Module:
        compiled: nn.Module = torch.compile(workers.replicate(model))  # type: ignore[assignment]
        return compiled

    return replace(workers, replicate=replicate)
