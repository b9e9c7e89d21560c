"""A network that the caller holds: checked, copied, and made anew with random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lotus_ray.base import seeds
from lotus_ray.base.errors import JobError
from lotus_ray.models import precision
from lotus_ray.models.layout import find_head

PRECISION_OF = {torch.float32: "fp32", torch.float64: "fp64"}
DEVICES = ("cpu", "cuda")


class GivenNetwork:
    """The caller's network. It is never changed: everything here is a copy."""

    def __init__(
        self, model: nn.Module, images: Tensor, new_model: Callable[[], nn.Module] | None
    ) -> None:
        """Copy the network, and try it.

        Args:
            model: images [N, C, H, W] -> logits [N, classes].
            images: a few, to try it with.
            new_model: builds the network with random weights.

        Raises:
            JobError: it is no such network, or it cannot be trained. The text says why.
        """
        self._new_model = new_model
        self.device, self.precision = _home(model)
        self.dtype = precision.PRECISIONS[self.precision].dtype
        bare = getattr(model, "_orig_mod", model)  # of torch.compile
        try:
            copied = copy.deepcopy(bare)
        except Exception as error:  # foreign code can raise anything
            raise _wrong(f"the network cannot be copied: {_line(error)}") from error
        self.original = self._prepared(copied).eval().requires_grad_(False)
        images = images[:2].to(self.device, self.dtype)
        self.num_classes = _tried(self.original, images)
        self.head = find_head(self.original, images)

    def trainable(self) -> nn.Module:
        """Return a copy whose weights can all be trained."""
        return copy.deepcopy(self.original).requires_grad_(True)

    def fresh(self, *names: object) -> nn.Module:
        """Return the network with random weights, which depend on `names` alone, in eval mode.

        Raises:
            JobError: `new_model` builds another network; or there is none, and a layer does not
                say how it is made anew.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.seed_for(*names))
            made = self._new_model() if self._new_model else _reset(self.trainable().cpu())
        ours, theirs = (_shapes(network) for network in (self.original, made))
        if ours != theirs:
            differs = next(iter(dict(ours.items() ^ theirs.items())))
            raise _wrong(f"new_model() builds another network: see {differs}", "new_model")
        return self._prepared(made).eval().requires_grad_(True)

    def _prepared(self, model: nn.Module) -> nn.Module:
        return precision.prepare(model, self.precision, self.device)


def _home(model: Any) -> tuple[torch.device, str]:
    """Return the device of a network, and the precision that its weights have."""
    if not isinstance(model, nn.Module):
        raise _wrong(f"{type(model).__name__} is no torch module")
    weights = dict(model.named_parameters())
    devices = {value.device for value in weights.values()}
    dtypes = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(devices) != 1 or (device := devices.pop()).type not in DEVICES:
        raise _wrong("the weights must be on one device, the CPU or a GPU of CUDA")
    if len(dtypes) != 1 or (dtype := dtypes.pop()) not in PRECISION_OF:
        raise _wrong("the weights must all be float32, or all float64", then="model.float()")
    frozen = [name for name, value in weights.items() if not value.requires_grad]
    if 0 < len(frozen) < len(weights):
        raise _wrong(
            f"{len(frozen)} of {len(weights)} parameters are frozen ({frozen[0]}), and methods "
            "may change every weight",
            then="model.requires_grad_(True)",
        )
    return device, PRECISION_OF[dtype]


def _tried(model: nn.Module, images: Tensor) -> int:
    """Return how many logits a network gives."""
    try:
        with torch.no_grad():
            logits = model(images)
    except Exception as error:  # foreign code can raise anything
        taken = list(images.shape)
        raise _wrong(f"the network does not take images {taken}: {_line(error)}") from error
    if not torch.is_tensor(logits) or logits.ndim != 2 or len(logits) != len(images):
        shape = list(logits.shape) if torch.is_tensor(logits) else type(logits).__name__
        raise _wrong(f"the network must give logits [N, classes], and gives {shape}")
    classes = logits.shape[1]
    if classes < 2:
        raise _wrong("the network gives one logit, and classes are at least two")
    sums = logits.double().sum(dim=1)
    if bool((logits >= 0).all()) and bool((sums - 1).abs().max() < 1e-4):
        raise _wrong("the network gives probabilities, and methods want logits", then="no softmax")
    return classes


def _reset(model: nn.Module) -> nn.Module:
    """Give every layer new weights, as torch does where a layer is made."""
    for name, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            raise _wrong(
                f"{name or 'the network'} ({type(module).__name__}) does not say how it is made "
                "anew with random weights, and this method needs that",
                "new_model",
                "new_model=lambda: Network(…), the call that built the model",
            )
        reset()
    return model


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _wrong(what: str, where: str = "model", then: str = "") -> JobError:
    return JobError(what, where=where, next_command=then)
