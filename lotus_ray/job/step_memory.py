"""Estimate the memory of a training step, without a GPU and without computing anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from lotus_ray.job.networks import Network
from lotus_ray.models import build
from lotus_ray.models.precision import PRECISIONS, prepare
from lotus_ray.unlearning.obstacle import batch_statistics_layer

HELD_WEIGHTS = 3  # copies: the model, the frozen original and the gradients
TEMPORARIES = 4  # of the size of the largest activation, which live beside those that are saved
FRAGMENTS = 1.05  # memory that torch reserves, by what tensors take: an estimate


@dataclass(frozen=True)
class StepMemory:
    """What a step of one network holds in memory, in bytes, and whether it can run in parts."""

    weights: int  # parameters and buffers
    fixed: int  # saved for the backward, whatever the number of images
    per_image: int  # saved for the backward
    temporary: int  # for each image: not saved, but needed at the peak
    image: int  # pixels of one
    norm: str | None  # the first layer with batch statistics
    is_random: bool  # True if the network draws random numbers: dropout, stochastic depth

    def bytes(self, images: int, weight_copies: float, batch: int) -> int:
        """Return the bytes of a step.

        Args:
            images: that go through forward and backward together, on one worker.
            weight_copies: see `Method.weight_copies`.
            batch: images of the step on one worker.
        """
        activations = self.fixed + (self.per_image + self.temporary) * images
        weights = (HELD_WEIGHTS + weight_copies) * self.weights
        return int(FRAGMENTS * (weights + activations + self.image * batch))

    def most_images(self, limit: int, weight_copies: float, batch: int | None = None) -> int:
        """Return how many images fit together in `limit` bytes; 0 if not one does.

        Args:
            limit: bytes of the GPU.
            weight_copies: see `Method.weight_copies`.
            batch: images of the step on one worker; None if these are all.
        """
        free = limit - self.bytes(0, weight_copies, batch or 0)
        each = self.per_image + self.temporary + (self.image if batch is None else 0)
        return max(int(free / FRAGMENTS / each), 0)


def step_memory(network: Network, precision: str) -> StepMemory:
    """Estimate the memory of a training step of a network.

    Tensors of the CPU are imitated (fake tensors), and autograd says what it saves for two images
    and for four: batch normalisation refuses one. Attention is the fused kind, as on a GPU.

    Args:
        network: to estimate.
        precision: an entry of PRECISIONS.

    Returns:
        Saved bytes are exact for a CPU. cuDNN's workspaces are not known.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # its import takes a second

    dtype = PRECISIONS[precision].dtype
    with torch.device("meta"):
        model = prepare(build(network.model.untrained, "memory"), precision, torch.device("meta"))
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        model._apply(_imitated)  # type: ignore[no-untyped-call]
        model.train()
        random = _RandomNumbers()  # type: ignore[no-untyped-call]
        with random:
            two, four = (_saved(model, images, network.img_size, dtype) for images in (2, 4))
    state = [*model.parameters(), *model.buffers()]
    per_image = (sum(four) - sum(two)) // 2
    return StepMemory(
        weights=sum(value.numel() * value.itemsize for value in state),
        fixed=max(sum(two) - 2 * per_image, 0),
        per_image=per_image,
        temporary=TEMPORARIES * max(four) // 4,
        image=3 * network.img_size**2 * dtype.itemsize,
        norm=batch_statistics_layer(model),
        is_random=random.drawn,
    )


def _imitated(value: Tensor) -> Tensor:
    """Return a tensor of the CPU in its place: a fake one, in the mode that makes such."""
    return torch.empty(value.shape, dtype=value.dtype)


def _saved(model: nn.Module, images: int, size: int, dtype: torch.dtype) -> list[int]:
    """Return the bytes of each storage that a forward in training mode saves for its backward."""
    pixels = torch.zeros(images, 3, size, size, dtype=dtype)
    with saved_bytes([*model.parameters(), *model.buffers(), pixels]) as saved:
        logits = model(pixels)
        functional.cross_entropy(logits, torch.zeros(images, dtype=torch.int64))
    return list(saved.values())


@contextmanager
def saved_bytes(without: list[Tensor]) -> Iterator[dict[int, int]]:
    """Collect the bytes of each storage that autograd saves within the block, each once.

    Args:
        without: tensors that are held anyhow.
    """
    held = {value.untyped_storage()._cdata for value in without}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage takes the address of another

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in held:
            saved[storage._cdata] = storage.nbytes()
            alive.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield saved


class _RandomNumbers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notices operations that draw random numbers."""

    drawn = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and _probability(func, args, kwargs):
            self.drawn = True
        return func(*args, **(kwargs or {}))


def _probability(func: Any, args: Any, kwargs: Any) -> float:
    """Return with which probability an operation drops values; 1 for other random operations."""
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | (kwargs or {})
    for argument in func._schema.arguments:
        if argument.name in ("dropout_p", "p"):
            return float(given.get(argument.name, argument.default_value) or 0.0)
    return 1.0
