"""How a process holds on to memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_ONE_GIB = 1 << 30


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


def give_back_memory() -> None:
    """Return freed blocks to the system: what comes next has blocks of other sizes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
