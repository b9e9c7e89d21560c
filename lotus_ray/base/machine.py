"""Facts about this machine and its versions."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch


def machine_facts(device: torch.device, workers: int, gpus: float = 1) -> dict[str, Any]:
    """Return device, workers, threads and versions, without environment and host name.

    Args:
        device: of this worker.
        workers: number of workers.
        gpus: GPUs of each worker; recorded only if it is a fraction of one.

    Returns:
        `resources` and `versions`, as a row keeps them.
    """
    is_gpu = device.type == "cuda"
    return {
        "resources": {
            "device": torch.cuda.get_device_name(device) if is_gpu else _cpu_name(),
            "device_type": device.type,
            "workers": workers,
            "threads_per_worker": torch.get_num_threads(),
            **({"gpus_per_worker": gpus} if is_gpu and gpus < 1 else {}),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
