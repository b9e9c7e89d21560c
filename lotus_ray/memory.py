"""How a process holds on to memory."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_ONE_GIB = 1 << 30


def keep_freed_memory() -> None:
    """Let freed blocks of up to a GiB be used again instead of going back to the system.

    A batch of images or activations is as large as the one before, but by default each is mapped
    anew, and the system clears it page by page: on a CPU that takes longer than filling it. Does
    nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, _ONE_GIB)
    mallopt(_TRIM_THRESHOLD, _ONE_GIB)
