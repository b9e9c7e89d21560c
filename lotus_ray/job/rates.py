"""FLOP a second at which methods run on a device, for costs of cells that no row tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from lotus_ray.store.row import Row

# The published run, fp32: Finetuning trains 3 · 45,000 images on ViT-B/16 in 16.24 minutes. An
# image takes 3 forwards of 35.1 GFLOP. Source: Spartalis et al. 2025, minutes of Finetuning.
PUBLISHED = 3 * 3 * 45_000 * 35.1e9 / (16.24 * 60)  # one RTX A6000
# 30 % of the dense peak, which training on large matrices reaches. Source: NVIDIA's data sheet.
HOPPER_BF16 = 0.30 * 989.5e12
# Measured: the ten methods of jobs/digits.yaml, one thread of a busy AMD EPYC, 14 to 18 GFLOP/s.
CPU = 15e9


@dataclass(frozen=True)
class Device:
    """What a cell runs on."""

    type: str  # cpu or cuda
    name: str | None = None  # as rows call it; None if it is not known yet


def flop_rate(device: Device, precision: str) -> float:
    """Return a rough rate of training and evaluation on one device, in FLOP a second.

    Args:
        device: GPUs that are not in the table count as the one of the published run.
        precision: of the job.
    """
    if device.type == "cpu":
        return CPU
    is_hopper = any(part in (device.name or "") for part in ("H100", "H200"))
    return HOPPER_BF16 if is_hopper and precision == "bf16" else PUBLISHED


def likely_device(kind: str, rows: Iterable[Row]) -> Device:
    """Return the device that will run cells: that of the newest row, else this machine's GPU.

    Args:
        kind: cpu or cuda.
        rows: of the store.
    """
    here = [row for row in rows if row.is_ok and row.resources.device_type == kind]
    if here:
        newest = max(here, key=lambda row: row.committed_at or "")
        return Device(kind, newest.resources.device)
    if kind == "cuda" and torch.cuda.is_available():
        return Device(kind, torch.cuda.get_device_name())
    return Device(kind)
