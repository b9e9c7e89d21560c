"""How a process holds on to memory, of the machine and of a GPU."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_ONE_GIB = 1 << 30
USABLE = 0.9  # of a GPU's memory
CONTEXT_BYTES = 600 << 20  # of it, what a process takes beside torch's own: an estimate, CUDA 12
_CUDA_FULL = ("CUDA error: out of memory", "ALLOC_FAILED")  # errors that torch does not type


def keep_freed_memory() -> None:
    """Let freed blocks of up to a GiB be used again instead of going back to the system.

    A batch of images or activations is as large as the one before, but by default each is mapped
    anew, and the system clears it page by page: on a CPU that takes longer than filling it. Does
    nothing where the C library is not glibc.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _ONE_GIB)
        mallopt(_TRIM_THRESHOLD, _ONE_GIB)


def forget_peak(device: torch.device) -> None:
    """Begin to measure the peak of a device's memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_memory(device: torch.device) -> dict[str, int]:
    """Return the most memory that this process held on a GPU, and all that it has, in bytes.

    What it held is what torch reserved: another process cannot have that. Empty for a CPU.
    """
    if device.type != "cuda":
        return {}
    return {
        "peak_device_bytes": torch.cuda.max_memory_reserved(device),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory,
    }


def keep_to_part(device: torch.device, gpus: float) -> None:
    """Let a process that has a part of a GPU run out of memory before it takes that of others."""
    if device.type == "cuda" and 0 < gpus < 1:
        context = CONTEXT_BYTES / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(max(USABLE * gpus - context, 0.0), device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the machine or a GPU ran out of memory."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _CUDA_FULL)


def give_back_memory() -> None:
    """Return freed blocks to the system: what comes next has blocks of other sizes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
