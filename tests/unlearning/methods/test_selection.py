"""The largest entries of many tensors: by hand, and beside a stable sort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotus_ray.unlearning.methods.selection import largest


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ([3, 1, 2], 2, [True, False, True]),
        ([1, 1, 1, 1], 2, [True, True, False, False]),
        ([0, 5, 0], 2, [True, True, False]),
        ([1, 2], 0, [False, False]),
        ([1, 2], 2, [True, True]),
    ],
)
def test_exactly_so_many_are_taken(values: list[int], count: int, expected: list[bool]) -> None:
    (mask,) = largest([torch.tensor(values, dtype=torch.float64)], count)
    assert mask.tolist() == expected


magnitudes = st.floats(0, 1e6, width=32) | st.sampled_from([0.0, 1.0, 1e-40, 2.0**-126])


@given(
    parts=st.lists(st.lists(magnitudes, min_size=1, max_size=9), min_size=1, max_size=4),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
def test_it_selects_what_a_stable_sort_would(
    parts: list[list[float]], share: float, dtype: torch.dtype
) -> None:
    values = [torch.tensor(part, dtype=torch.float64).clamp_max(6e4).to(dtype) for part in parts]
    joined = torch.cat(values)
    count = round(share * len(joined))
    expected = torch.zeros(len(joined), dtype=torch.bool)
    expected[torch.sort(joined, descending=True, stable=True).indices[:count]] = True
    found = largest(values, count)
    assert [mask.shape for mask in found] == [value.shape for value in values]
    assert torch.equal(torch.cat(found), expected)


def test_more_entries_than_are_looked_at_together() -> None:
    """Entries 0 … 2·2²⁰ + 4 in a fixed random order: the 1,500,000 largest, whatever the layout."""
    size = 2 * (1 << 20) + 5
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    values = order.to(torch.float32)
    square = values[: 1 << 20].reshape(1, 4, 512, 512).contiguous(memory_format=torch.channels_last)
    first, rest = largest([square, values[1 << 20 :]], 1_500_000)
    expected = order >= size - 1_500_000
    assert torch.equal(first.reshape(-1), expected[: 1 << 20])
    assert torch.equal(rest, expected[1 << 20 :])
