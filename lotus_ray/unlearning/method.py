"""The base class of every method: a frozen dataclass of hyper-parameters with one function."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.problem import Problem

# Hyper-parameters, of any method, that lie between 0 and 1.
SHARES = ("momentum", "retain_fraction", "retain_weight", "density", "redrawn_fraction")


# Metadata of a hyper-parameter that is younger than its method. At its default it is no part of a
# cell's identity: the cells that had run without it keep their ids.
NEWER = {"newer": True}


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass of hyper-parameters with one function."""

    name: ClassVar[str]  # in jobs
    label: ClassVar[str]  # in reports
    # Rises when the mathematics changes, so that old rows are not taken for new ones.
    version: ClassVar[int] = 1
    least_epochs: ClassVar[int] = 1
    positive: ClassVar[tuple[str, ...]] = ()  # numbers that must be above 0
    code: ClassVar[str] = ""  # digest of a plug-in's source; set where it is imported
    maskable: ClassVar[bool] = True  # False if SalUn must not stand around it

    def __post_init__(self) -> None:
        """Raise MethodError if a number is not finite, too small, or a share above 1."""
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            low = self.least_epochs if name == "epochs" else 0
            high = 1.0 if name in SHARES else math.inf
            if not (math.isfinite(value) and low <= value <= high):
                limits = f"{low} … {high:g}" if name in SHARES else f"at least {low}, and finite"
                what = f"{self.name}: {name} is {value}, and must be {limits}"
                raise MethodError(what, where=name)
        for name in self.positive:
            if not getattr(self, name) > 0:
                raise MethodError(f"{self.name}: {name} must be above 0", where=name)

    @property
    def title(self) -> str:
        """Return what reports call this method, with what it is built around."""
        return self.label

    @property
    def mixes_images(self) -> bool:
        """Return True if the term of an image in the loss depends on other images of its step.

        The loss of the parts of such a step do not add up, so its steps always run whole.
        """
        return False

    @property
    def batches_held(self) -> int:
        """Return how many batches a step holds the activations of at once, where it runs whole."""
        return 1

    @property
    def weight_copies(self) -> float:
        """Return the most memory that is held beside model, original and gradients.

        In units of the weights: 1 for the momentum of SGD, 2 for Adam. Used for estimates alone.
        """
        return 1.0

    @abstractmethod
    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        """Yield the phases to train, in order. Code between two yields may edit `problem.model`."""
