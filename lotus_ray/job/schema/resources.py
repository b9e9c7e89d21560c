"""The resources of one group of cells: workers, CPUs, GPUs, memory and disk."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lotus_ray.job.schema.fields import Positive, Strict


class Resources(Strict):
    """The resources of one group of cells."""

    workers: Positive = 1
    min_workers: Annotated[
        Positive | None,
        Field(
            description="a group starts with this many workers if no more fit, continues with them "
            "after a node is lost, and grows when nodes come; default: always `workers`"
        ),
    ] = None
    cpus_per_worker: Positive = 1
    gpus_per_worker: Annotated[
        float, Field(ge=0, description="0.25 puts four groups on one GPU; above 1, an integer")
    ] = 0
    gpu_memory_gb: Annotated[
        float | None,
        Field(
            gt=0,
            description="memory of one GPU (GiB), to check before a GPU is at hand that steps fit",
        ),
    ] = None
    micro_batch: Annotated[
        Literal["auto"] | Positive,
        Field(
            description="most images that a worker takes through forward and backward together; "
            "auto: the whole batch, and halves of it where memory runs out"
        ),
    ] = "auto"
    trials_at_once: Annotated[
        Positive | None,
        Field(
            description="run at most this many cells at once; default: as many as fit, and more "
            "when nodes come"
        ),
    ] = None
    checkpoint_seconds: Annotated[
        float, Field(ge=0, description="a killed cell loses at most this time plus one phase")
    ] = 60
    decoded_memory_gb: Annotated[
        float, Field(ge=0, description="most decoded images in memory of a node (GiB)")
    ] = 8
    decoded_disk_gb: Annotated[
        float | None,
        Field(ge=0, description="most decoded images on its disk (GiB); default: the free space"),
    ] = None
    decoded_store_gb: Annotated[
        float,
        Field(
            ge=0,
            description="most decoded images that the store keeps for later commands (GiB)",
        ),
    ] = 100
    scratch: Annotated[
        str | None,
        Field(description="folder on the disk for decoded images; default: the system's"),
    ] = None
    compile: Annotated[
        bool,
        Field(description="compile networks that train; rows say so"),
    ] = False
    max_bad_images: Annotated[
        int,
        Field(
            ge=0,
            description="leave out up to this many images that cannot be decoded; "
            "forget images must not be among them",
        ),
    ] = 0

    @field_validator("min_workers", mode="before")
    @classmethod
    def _no_more_than_workers(cls, value: Any, info: ValidationInfo) -> Any:
        most = info.data.get("workers")
        if value is None or most is None or (type(value) is int and 1 <= value <= most):
            return value
        nearest = int(min(max(1, value), most)) if isinstance(value, int | float) else most
        raise PydanticCustomError(
            "min_workers",
            "min_workers is an integer from 1 to workers, which is {most}",
            {"most": most, "nearest": nearest},
        )

    @field_validator("micro_batch", mode="before")
    @classmethod
    def _auto_or_a_number(cls, value: Any) -> Any:
        """Refuse everything else, with one error instead of one for each kind of value."""
        if value == "auto" or (type(value) is int and value >= 1):
            return value
        raise PydanticCustomError(
            "micro_batch", "micro_batch is auto or an integer of at least 1", {"nearest": "auto"}
        )

    @property
    def least_workers(self) -> int:
        """The smallest number of workers that a group can run with."""
        return self.min_workers or self.workers

    def trials_on(self, workers: int) -> int:
        """Return how many groups run at once on a number of workers.

        Each group takes up to `workers`. The last one takes the rest if that is at least
        `min_workers`. Ray assigns workers in the same way.
        """
        groups, rest = divmod(workers, self.workers)
        return groups + (rest >= self.least_workers)

    @property
    def workers_text(self) -> str:
        """The number of workers of a group, for messages: 2, or 1 to 2."""
        least = self.least_workers
        return f"{self.workers}" if least == self.workers else f"{least} to {self.workers}"

    @model_validator(mode="after")
    def _gpus_that_exist(self) -> Resources:
        """Refuse numbers that Ray refuses, and fractions of a GPU for workers that use NCCL."""
        gpus = self.gpus_per_worker
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("gpus_per_worker above 1 must be an integer")
        if 0 < gpus < 1 and self.workers > 1:
            raise ValueError("several workers of one group cannot share a GPU: each needs its own")
        return self
