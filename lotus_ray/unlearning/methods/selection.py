"""The largest entries of many tensors together. Nothing is sorted or joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_ENTRIES_AT_A_TIME = 1 << 20
_BINS_BITS = 16
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def largest(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """Select the `count` largest entries of all tensors together.

    Args:
        values: float tensors of one dtype, without negative entries.
        count: number of entries to select, from 0 to all.

    Returns:
        bool tensors in the shapes of `values`. Exactly `count` entries are True; of equal values
        the first ones.

    Source: radix selection. The bits of non-negative floats, read as integers, have the order of
    the floats: a histogram of the leading bits finds the bin of the threshold. Deviation: none.
    """
    if not count:
        return [torch.zeros_like(value, dtype=torch.bool) for value in values]
    bits = [value.reshape(-1).view(_INTEGERS[value.itemsize]) for value in values]
    threshold = _nth_largest(bits, count)
    masks = [flat > threshold for flat in bits]
    missing = count - sum(int(mask.sum()) for mask in masks)
    for mask, flat in zip(masks, bits, strict=True):
        if not missing:
            break
        ties = (flat == threshold).nonzero()[:missing, 0]
        mask[ties] = True
        missing -= len(ties)
    return [mask.view(value.shape) for mask, value in zip(masks, values, strict=True)]


def _nth_largest(bits: Sequence[Tensor], n: int) -> Tensor:
    """Return the n-th largest, int [], of non-negative integers: tensors [m_i]."""
    shift = 8 * bits[0].itemsize - _BINS_BITS
    histogram = sum(
        torch.bincount(part >> shift, minlength=1 << _BINS_BITS) for part in _parts(bits)
    )
    assert isinstance(histogram, Tensor)
    at_least = histogram.flip(0).cumsum(0).flip(0)  # entries in a bin or a higher one
    threshold_bin = int((at_least >= n).nonzero()[-1])
    candidates = torch.cat([part[(part >> shift) == threshold_bin] for part in _parts(bits)])
    higher = int(at_least[threshold_bin]) - len(candidates)
    return candidates.kthvalue(len(candidates) - (n - higher) + 1).values


def _parts(bits: Sequence[Tensor]) -> Iterator[Tensor]:
    for flat in bits:
        yield from torch.split(flat, _ENTRIES_AT_A_TIME)
