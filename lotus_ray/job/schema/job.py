"""A job file: the grid, its defaults, and the settings of all cells."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, StrictInt, model_validator

from lotus_ray.audit.gates import Gated
from lotus_ray.job.schema.dataset import DatasetJob
from lotus_ray.job.schema.fields import Positive, Strict
from lotus_ray.job.schema.model import ModelJob
from lotus_ray.job.schema.relearn import Relearn
from lotus_ray.job.schema.resources import Resources


class Grid(Strict):
    """The axes: every method × data set × model × seed is a cell."""

    methods: list[str | dict[str, Any]] = Field(
        min_length=1,
        description="a name, or {name, its hyper-parameters, batch_size}; see list methods",
    )
    datasets: list[DatasetJob] = Field(min_length=1)
    models: list[ModelJob] = Field(min_length=1)
    seeds: list[StrictInt] = Field(min_length=1)


class Defaults(Strict):
    """Defaults that files which extend this one need not repeat."""

    dataset: dict[str, Any] = Field(
        default_factory=dict, description="of every entry of grid.datasets, key by key"
    )
    methods: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="hyper-parameters and batch_size by method, used or not"
    )


class Job(Gated, Strict):
    """A job file."""

    extends: str | list[str] | None = Field(
        None, description="files with values for keys that this file lacks; later files win"
    )
    imports: list[str] = Field(
        default_factory=list,
        alias="import",
        description="plug-ins: files x.py, relative to this file, or modules; see docs/plugins.md",
    )
    defaults: Defaults = Defaults()
    grid: Grid
    metrics: list[str] = Field(
        default_factory=list, description="of plug-ins, in every row beside the built-in ones"
    )
    epochs: Positive | None = Field(None, description="of every method without its own number")
    batch_size: Positive = Field(
        128, description="global: workers share it; a method may have its own"
    )
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = Field(
        "fp32", description="of products inside the network; weights and metrics stay in fp32"
    )
    relearn: Relearn | None = Field(
        None,
        description="whether a little more training brings forgotten images back; {} measures it "
        "as below. `lotus-ray forget` does unless this says null",
    )
    resources: Resources = Resources()
    offline: bool = Field(
        False, description="download no pretrained weights; use this machine's caches"
    )
    store: str = Field(
        min_length=1, description="folder, s3:// or gs:// address of the metric store"
    )

    @model_validator(mode="after")
    def _precision_that_exists(self) -> Job:
        """Refuse tf32 without a GPU. Other limits of a device are checked on the device."""
        if self.precision == "tf32" and not self.resources.gpus_per_worker:
            raise ValueError("precision tf32 needs a GPU, and resources.gpus_per_worker is 0")
        return self
