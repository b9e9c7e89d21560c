"""What all parts of the schema share: a strict model and numbers with a lower bound."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, strict=True)]
AboveZero = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A part of a job. It has no other keys than its fields, and no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
