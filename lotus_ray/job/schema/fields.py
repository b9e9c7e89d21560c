"""Shared by all parts of the schema: a strict model, and numbers with a lower bound."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, strict=True)]
AboveZero = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A part of a job. Unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
