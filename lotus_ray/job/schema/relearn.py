"""How to measure whether a little more training brings forgotten images back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from lotus_ray.job.schema.fields import AboveZero, Positive, Strict
from lotus_ray.metrics import relearn

TwoOrMore = Annotated[int, Field(ge=2, strict=True)]  # one image has no variance to normalise by


class Relearn(Strict):
    """After a cell, a copy of its model learns a little from images to keep, and is measured."""

    images: TwoOrMore = Field(256, description="retained images that it learns from, at most")
    batch_size: TwoOrMore = Field(32, description="global, as that of the job")
    steps: Positive = Field(30, description="optimizer steps")
    every: Positive = Field(5, description="steps between two measurements")
    evaluated: Positive = Field(
        200, description="images to forget that are measured, at most, and about as many held-out"
    )
    lr: AboveZero = Field(0.01, description="learning rate of SGD, whose momentum is 0.9")

    def spec(self) -> dict[str, Any]:
        """Return what the curve depends on, for the spec of a cell."""
        return {**self.model_dump(), "version": relearn.VERSION}
