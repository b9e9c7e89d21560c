"""Random numbers that depend only on names, not on machine, worker or order of work.

A job's seed and a few names select a stream. The key of a sample selects its numbers in the stream.
So two workers draw the same numbers for the same sample in the same epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def seed_for(*names: object) -> int:
    """Hash names to a seed that is the same on every machine.

    Args:
        names: strings and integers; their order counts.

    Returns:
        An integer in [0, 2**63).

    Source: BLAKE2b. Deviation: none.
    """
    text = "\x1f".join(str(name) for name in names)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def sample_keys(sample_ids: Sequence[str]) -> Tensor:
    """Hash N sample ids to keys, int64 [N]."""
    return torch.tensor([seed_for("sample", name) for name in sample_ids], dtype=torch.int64)


def scores(keys: Tensor, *names: object) -> Tensor:
    """Draw one random integer for each sample from the stream of `names`.

    Args:
        keys: int64 [N], from `sample_keys`.
        names: of the stream, such as (seed, "shuffle", epoch).

    Returns:
        int64 [N], uniform over all int64 values. Sorting samples by it shuffles them.

    Source: Steele, Lea & Flood 2014, SplitMix64's finaliser. Deviation: none.
    """
    return _mix(keys ^ _signed(seed_for(*names)))


def uniform(keys: Tensor, columns: int, *names: object) -> Tensor:
    """Draw uniform numbers for each sample from the stream of `names`.

    Args:
        keys: int64 [N], from `sample_keys`.
        columns: C, numbers per sample.
        names: of the stream, such as (seed, "gumbel", epoch).

    Returns:
        float64 [N, C], strictly between 0 and 1.

    Source: Steele, Lea & Flood 2014, SplitMix64. Deviation: none.
    """
    steps = torch.arange(1, columns + 1, device=keys.device) * _signed(_GOLDEN)
    bits = _mix(scores(keys, *names)[:, None] + steps)
    return (_shifted(bits, 12).double() + 0.5) * 2.0**-52


def _mix(z: Tensor) -> Tensor:
    """Apply the finaliser of SplitMix64 to each entry of an int64 tensor."""
    z = (z ^ _shifted(z, 30)) * _signed(_MIX[0])
    z = (z ^ _shifted(z, 27)) * _signed(_MIX[1])
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift right without sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """Return the int64 with the bits of an unsigned integer."""
    return value - (1 << 64) if value >= 1 << 63 else value
