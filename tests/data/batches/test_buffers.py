"""Memory of batches: used again when the last view is gone, and never before."""

from __future__ import annotations

import torch

from lotus_ray.data.batches.buffers import MOST, Buffers


def test_memory_is_used_again_when_nobody_holds_a_view_of_it() -> None:
    """A view, what autograd keeps, and a NumPy array of it count: each would see other values."""
    buffers = Buffers()
    first = buffers.empty((4, 3), torch.float32)
    address = first.data_ptr()
    view = first[1:]
    del first
    assert buffers.empty((4, 3), torch.float32).data_ptr() != address
    weight = torch.ones((3, 3), requires_grad=True)
    product = view @ weight  # its backward pass needs the view
    del view
    assert buffers.empty((4, 3), torch.float32).data_ptr() != address
    array = buffers.empty((4, 3), torch.float32).numpy()
    other = array.__array_interface__["data"][0]
    assert buffers.empty((4, 3), torch.float32).data_ptr() != other
    del product, array
    taken = [buffers.empty((4, 3), torch.float32) for _ in range(3)]
    assert {address, other} <= {each.data_ptr() for each in taken}


def test_values_of_a_tensor_that_is_held_never_change() -> None:
    buffers, held = Buffers(), []
    for number in range(3 * MOST):
        made = buffers.empty((5,), torch.float64).fill_(number)
        if number % 3 == 0:
            held.append(made)
    assert [each.tolist() for each in held] == [[3.0 * n] * 5 for n in range(MOST)]


def test_a_walk_needs_two_buffers_however_long_it_is() -> None:
    """The batch that the caller holds, and the next one. Sizes of an epoch differ by a row."""
    buffers, addresses = Buffers(), set()
    batch = None
    for number in range(50):
        batch = buffers.empty((64 - number % 2, 3, 8, 8), torch.float32)
        addresses.add(batch.data_ptr())
    assert batch is not None
    assert len(addresses) == 2


def test_other_sizes_do_not_pile_up() -> None:
    """Nor is a large buffer taken for something small."""
    buffers = Buffers()
    for size in range(1, 40):
        assert buffers.empty((2**size % 10_007, 2), torch.int64).shape[1] == 2
        assert len(buffers._kept) <= MOST
    large = buffers.empty((1000,), torch.uint8).data_ptr()
    assert buffers.empty((100,), torch.uint8).data_ptr() != large
