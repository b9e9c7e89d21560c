"""Memory of a process, on the machine and on a GPU."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_ONE_GIB = 1 << 30
USABLE = 0.9  # part of a GPU's memory that workers may use together
CONTEXT_BYTES = 600 << 20  # GPU memory of a process outside torch: an estimate for CUDA 12
_CUDA_FULL = ("CUDA error: out of memory", "ALLOC_FAILED")  # texts of plain RuntimeErrors


def keep_freed_memory() -> None:
    """Reuse freed blocks of up to 1 GiB instead of returning them to the system.

    Batches of images and activations always have the same size. By default the system maps each one
    again and clears it page by page, which takes longer on a CPU than filling it. Does nothing if
    the C library is not glibc.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _ONE_GIB)
        mallopt(_TRIM_THRESHOLD, _ONE_GIB)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of a device's peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_memory(device: torch.device) -> dict[str, int]:
    """Return the peak memory of this process on a GPU, and the GPU's memory, in bytes.

    The peak is the memory that torch reserved: no other process can use it. Empty for a CPU.
    """
    if device.type != "cuda":
        return {}
    return {
        "peak_device_bytes": torch.cuda.max_memory_reserved(device),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory,
    }


def limit_gpu_memory(device: torch.device, gpus: float) -> None:
    """Limit a process with a fraction of a GPU, `gpus`, to that fraction of its memory.

    It runs out of memory before it takes memory of the other processes on the GPU.
    """
    if device.type == "cuda" and 0 < gpus < 1:
        context = CONTEXT_BYTES / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(max(USABLE * gpus - context, 0.0), device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the error says that the machine or a GPU ran out of memory."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _CUDA_FULL)


def release_memory() -> None:
    """Return freed blocks to the system, because the next work needs blocks of other sizes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
