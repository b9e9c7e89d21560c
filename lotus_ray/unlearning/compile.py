"""Compile networks while they train."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from lotus_ray.unlearning.contract import Workers


def compiling(workers: Workers) -> Workers:
    """Return workers whose replicas are compiled.

    Only the network that trains is compiled. Evaluation, teachers and gradients in eval mode are
    few passes, and each mode would need a compilation of its own.
    """

    def replicate(model: nn.Module) -> nn.Module:
        compiled: nn.Module = torch.compile(workers.replicate(model))  # type: ignore[assignment]
        return compiled

    return replace(workers, replicate=replicate)
