"""Memory for batches, which is used again when nobody holds the batch any more.

Without it, something small may take the first bytes of the gap that a batch leaves. The next batch
does not fit into it, and memory grows with each batch: by gigabytes in an epoch, or by nothing, as
it happens.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MOST = 8  # buffers that are kept: methods that walk two sets in turn have two sizes


class Buffers:
    """Gives out tensors. The memory of one is free when the last view of it is gone."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []  # uint8 [n] each; every tensor made of one refers to it

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor on the CPU whose values are arbitrary.

        Args:
            shape: of the tensor.
            dtype: of the tensor.
        """
        size = math.prod(shape) * dtype.itemsize
        buffer = self._free(size)
        if buffer is None:
            self._forget_unused()
            buffer = torch.empty(size, dtype=torch.uint8).numpy()  # aligned as torch's own
            self._kept.append(buffer)
        return torch.from_numpy(buffer[:size]).view(dtype).reshape(tuple(shape))

    def _free(self, size: int) -> np.ndarray | None:
        """Return a buffer that nobody uses, and of which not much is wasted."""
        for index in range(len(self._kept)):
            fits = size <= self._kept[index].nbytes <= 2 * size
            if fits and _references(self._kept, index) == _UNUSED:
                return self._kept[index]
        return None

    def _forget_unused(self) -> None:
        """Make room for a new buffer among those that are kept. What is in use stays in memory."""
        if len(self._kept) >= MOST:
            indices = range(len(self._kept))
            used = [index for index in indices if _references(self._kept, index) > _UNUSED]
            self._kept = [self._kept[index] for index in used][-(MOST - 1) :]


def _references(buffers: list[np.ndarray], index: int) -> int:
    """Return how many references there are to a buffer; the same number for all that are unused."""
    return sys.getrefcount(buffers[index])


_UNUSED = _references([np.empty(0, np.uint8)], 0)
