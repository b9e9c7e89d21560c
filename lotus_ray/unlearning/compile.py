"""Whether networks are compiled while they train, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from lotus_ray.unlearning.problem import Workers

SAVED = 0.2  # of a step, at least, by torch.compile on the GPUs it is made for
COMPILE_SECONDS = 120.0  # of a network in training mode, for batches of two sizes


def pays(seconds_an_image: float, images_left: float) -> bool:
    """Return whether compiling saves more time than it takes.

    Args:
        seconds_an_image: of training so far, without compiling.
        images_left: that will be trained on, each time it is met.
    """
    return SAVED * seconds_an_image * images_left > COMPILE_SECONDS


@dataclass
class Compiling:
    """Whether a lane compiles: from the first cell on where what is left of it repays that."""

    wanted: bool = False
    on: bool = False
    _seconds_an_image: float = 0.0

    def learn(self, seconds: float, images: int) -> None:
        """Take in how long training on some images of this worker took; compiled ones tell less."""
        if images and not self.on:
            self._seconds_an_image = seconds / images

    def workers(self, workers: Workers, images_left: int, device: torch.device) -> Workers:
        """Return the workers for the next cell, compiling where that pays.

        Args:
            workers: as they are; all of them ask, and do as the first one finds.
            images_left: that the lane will train on from here, each time it is met, on all workers.
            device: of this worker.
        """
        if not self.wanted:
            return workers
        found = pays(self._seconds_an_image, images_left / workers.size)
        self.on |= bool(workers.from_first(torch.tensor(float(found), device=device)))
        return compiling(workers) if self.on else workers


def compiling(workers: Workers) -> Workers:
    """Return workers whose replicas are compiled: what trains, and not what is evaluated.

    Evaluation, teachers and gradients in eval mode are few passes, and each mode would be compiled
    anew.
    """

    def replicate(model: nn.Module) -> nn.Module:
        compiled: nn.Module = torch.compile(workers.replicate(model))  # type: ignore[assignment]
        return compiled

    return replace(workers, replicate=replicate)
