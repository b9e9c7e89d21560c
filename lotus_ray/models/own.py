"""Networks of one's own: a function that builds one, marked as a model for jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])
_MARK = "__lotus_ray_model__"


def model(builder: Builder) -> Builder:
    """Mark a function as a model of jobs, under its own name.

    Args:
        builder: takes `num_classes` and the options of the job; returns a module that maps images
            [N, 3, H, W] to logits [N, num_classes]. The layer of its logits is the last one of
            `fc`, `classifier`, `heads` or `head`.
    """
    setattr(builder, _MARK, builder.__name__)
    return builder


def own_name(value: Any) -> str | None:
    """Return the name of a function that `model` has marked; None of anything else."""
    name = vars(value).get(_MARK) if hasattr(value, "__dict__") else None
    return name if isinstance(name, str) else None
