"""The largest entries of many tensors together, by counting: nothing is sorted or joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_AT_A_TIME = 1 << 20  # entries
_BINS_BITS = 16
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a float


def largest(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """Select the `count` largest entries of all tensors together.

    Args:
        values: float tensors of one dtype, no entry negative.
        count: how many, up to the number of all entries.

    Returns:
        bool tensors in the shapes of `values`; exactly `count` entries are true, the first ones
        where several are equal.

    Source: radix selection. The bits of a float that is not negative, read as an integer, are
    ordered as the floats are: a histogram of the leading ones finds the bin of the threshold.
    Deviation: none.
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
    """Return the n-th largest of some integers, none of them negative: tensors [m_i] -> []."""
    shift = 8 * bits[0].itemsize - _BINS_BITS
    histogram = sum(
        torch.bincount(part >> shift, minlength=1 << _BINS_BITS) for part in _parts(bits)
    )
    assert isinstance(histogram, Tensor)
    at_least = histogram.flip(0).cumsum(0).flip(0)  # entries in a bin or a higher one
    place = int((at_least >= n).nonzero()[-1])
    candidates = torch.cat([part[(part >> shift) == place] for part in _parts(bits)])
    higher = int(at_least[place]) - len(candidates)
    return candidates.kthvalue(len(candidates) - (n - higher) + 1).values


def _parts(bits: Sequence[Tensor]) -> Iterator[Tensor]:
    for flat in bits:
        yield from torch.split(flat, _AT_A_TIME)
