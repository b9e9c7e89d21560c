"""How much a cell changed the original: its weights, and its outputs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lotus_ray.base.roles import ROLES
from lotus_ray.metrics.outputs import Outputs


def weight_change(model: nn.Module, original: nn.Module) -> dict[str, float]:
    """Compare the parameters of two networks of one architecture; buffers do not count.

    Args:
        model: the network after unlearning.
        original: the network before it.

    Returns:
        `relative_distance` ‖θ − θ_original‖₂ / ‖θ_original‖₂ over all parameters, in float64; and
        `weights_moved`, the share of single weights that differ, between 0 and 1.

    Source: the norms of the definition. Deviation: none.
    """
    squares, norm, moved, count = 0.0, 0.0, 0, 0
    with torch.no_grad():
        for value, before in zip(model.parameters(), original.parameters(), strict=True):
            difference = value.double() - before.double()
            squares += float(difference.square().sum())
            norm += float(before.double().square().sum())
            moved += int(value.ne(before).sum())
            count += value.numel()
    return {"relative_distance": (squares / norm) ** 0.5, "weights_moved": moved / count}


def outputs_changed(outputs: Outputs, original: Outputs) -> float:
    """Return the share of evaluated images, between 0 and 1, that get another output.

    Two outputs are equal if prediction, entropy, loss and margin are equal to the last bit.
    """
    pairs = [
        (getattr(outputs, name), getattr(original, name))
        for name in ("predicted", "entropy", "loss", "margin")
    ]
    changed = np.logical_or.reduce([ours != before for ours, before in pairs])
    return float(outputs.of(changed, *ROLES).mean())
