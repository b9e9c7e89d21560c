"""How much of a GPU's peak a network uses."""

from __future__ import annotations

import torch

from lotus_ray.bench.scoreboard import Measurements, Score

# Dense bfloat16 FLOP/s from the maker's data sheet, by torch's name of the device. Other devices
# get no score, because a device with a similar name may have another peak.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H200": 989.5e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
}
LEAST = 0.40  # of the peak


def utilisation(flops: float, device: torch.device, repeats: int) -> Measurements:
    """Compute the model FLOP utilisation, FLOP/s ÷ peak FLOP/s.

    Args:
        flops: FLOP/s of training in bfloat16, by the network's own operations.
        device: of the measurement.
        repeats: of the measurement.

    Returns:
        One score, or a note if the peak of the device is unknown.

    Source: Chowdhery et al. 2022 (PaLM), appendix B. Deviation: none.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    if name not in PEAKS:
        return Measurements(notes=[f"the peak of {name} is unknown: no model FLOP utilisation"])
    about = "FLOP/s of training in bfloat16 ÷ the GPU's peak"
    score = Score("G1", about, flops / PEAKS[name], LEAST, True, repeats)
    return Measurements({"model_flop_utilisation": score})
