"""Normal noise for weights, the same on every worker, and the norm of all weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lotus_ray.base import seeds

ENTRIES_AT_A_TIME = 1 << 20  # numbers are drawn in float64


def normal(uniform: Tensor) -> Tensor:
    """Turn uniform numbers in (0, 1) into normal ones, in the same shape."""
    return torch.erfinv(2 * uniform - 1) * 2**0.5


def normal_like(value: Tensor, *names: object) -> Tensor:
    """Draw normal numbers, in shape, dtype and device of a tensor, from the stream of `names`."""
    noise = torch.empty(value.numel(), dtype=value.dtype, device=value.device)
    start = 0
    for part in torch.split(noise, ENTRIES_AT_A_TIME):
        keys = torch.arange(start, start + len(part), device=value.device)
        part.copy_(normal(seeds.uniform(keys, 1, *names)[:, 0]))
        start += len(part)
    return noise.view(value.shape)


@torch.no_grad()
def clip_weights(model: nn.Module, most: float) -> None:
    """Scale all weights together so that their L2 norm is at most `most`."""
    norms = [value.norm(dtype=torch.float64) for value in model.parameters()]
    factor = (most / torch.stack(norms).norm()).clamp_max(1)
    for value in model.parameters():
        value.mul_(factor.to(value))
