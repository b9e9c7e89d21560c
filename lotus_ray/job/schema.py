"""What a job file may say, and the defaults of what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.models import ModelSpec

Positive = Annotated[int, Field(ge=1, strict=True)]
AboveZero = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ForgetSet(_Strict):
    """Which training samples to forget: exactly one of these."""

    fraction: float | None = Field(None, gt=0, lt=1, description="part of every class")
    per_class: Positive | None = Field(None, description="so many of every class")
    classes: list[StrictStr | StrictInt] | None = Field(
        None, min_length=1, description="whole classes by name"
    )
    ids: str | None = Field(None, description="file of sample ids: .csv, .parquet or one a line")

    @model_validator(mode="after")
    def _exactly_one(self) -> ForgetSet:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of fraction, per_class, classes, ids")
        return self

    @property
    def setting(self) -> str:
        """Return the name of the setting in reports."""
        if self.fraction is not None:
            return f"instance_{self.fraction * 100:g}pct"
        if self.per_class is not None:
            return f"instance_{self.per_class}perclass"
        if self.classes is not None:
            return "class_" + "_".join(str(name) for name in self.classes)
        return f"ids_{Path(self.ids or '').stem}"


class RetainSet(_Strict):
    """Which of the other training samples methods may use: all, or one of these."""

    fraction: Annotated[float, Field(gt=0, le=1)] | None = None  # part of every class
    per_class: Positive | None = None  # so many of every class

    @model_validator(mode="after")
    def _at_most_one(self) -> RetainSet:
        if self.fraction is not None and self.per_class is not None:
            raise ValueError("give either fraction or per_class")
        return self

    @property
    def setting(self) -> str:
        """Return what the name of the setting in reports ends with."""
        if self.fraction is not None:
            return f"_retain{self.fraction * 100:g}pct"
        return "" if self.per_class is None else f"_retain{self.per_class}"


class CalibrationSet(_Strict):
    """Images that take the place of the unseen set where LoTUS asks how uncertain to be."""

    manifest: str = Field(description="folder that `lotus-ray prepare` made; its classes by name")


class ParquetFiles(_Strict):
    """Parquet of somebody else, read in place: addresses, folders or patterns with *."""

    train: list[str] = Field(min_length=1, description="on a disk, s3://, gs:// or hf://")
    heldout: list[str] = Field(min_length=1)
    image: str = Field("image", description="column: a struct with bytes")
    label: str = Field("label", description="column: integers from 0 on")
    classes: list[str] | None = Field(None, description="default the names that the files hold")


class DatasetJob(_Strict):
    """One data set: embedded (`source`), prepared (`manifest`) or somebody's own (`parquet`)."""

    name: str = Field(description="benchmark name in reports, such as CIFAR-10")
    source: str | None = Field(None, description="see `lotus-ray list datasets`")
    manifest: str | None = Field(
        None, description="folder that `lotus-ray prepare` made; an embedded source needs none"
    )
    parquet: ParquetFiles | None = Field(None, description="files that are read in place")
    forget: ForgetSet
    retain: RetainSet = RetainSet()
    calibration: CalibrationSet | None = Field(
        None, description="such as synthetic images; default the unseen half of the held-out split"
    )
    num_classes: Positive | None = Field(None, description="checked against the data")
    setting: str | None = Field(None, description="in reports; default says what is forgotten")
    img_size: Positive
    crop_pct: float = Field(1.0, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[AboveZero, AboveZero, AboveZero] = (0.5, 0.5, 0.5)
    decoder: Literal["exact", "fast"] = Field(
        "exact", description="exact is Pillow; fast, for JPEG, is within 2 of 255 levels of it"
    )

    shuffle_window: Positive | None = Field(
        None,
        description="shuffle an epoch within windows of so many images, as they are stored: "
        "retained images for which there is no room then stream; default all at once",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> DatasetJob:
        if self.parquet is not None and (self.source or self.manifest):
            raise ValueError("give either parquet, or a source or manifest")
        if self.parquet is None and self.source is None and self.manifest is None:
            raise ValueError("give a source that is embedded, a manifest, or parquet")
        return self

    @property
    def transform(self) -> Transform:
        """Return how pixels are made."""
        return Transform(
            self.img_size, self.crop_pct, self.interpolation, self.mean, self.std, self.decoder
        )

    @property
    def setting_name(self) -> str:
        """Return the setting's name in reports."""
        calibrated = (
            f"_calibrated-{Path(self.calibration.manifest).name}" if self.calibration else ""
        )
        return self.setting or self.forget.setting + self.retain.setting + calibrated


def _yes_no_or_name(value: Any) -> Any:
    """Refuse what pydantic would take for a truth value, as it takes 1."""
    if not isinstance(value, bool | str):
        raise ValueError("give true, false or the name of torchvision's weights")
    return value


class ModelJob(_Strict):
    """One network and the recipe of its original."""

    name: str = Field(description="see `lotus-ray list models`")
    label: str | None = Field(None, description="in reports; default the name")
    pretrained: Annotated[bool | str, BeforeValidator(_yes_no_or_name)] = Field(
        False, description="true for the default weights, or a name of torchvision's, IMAGENET1K_V1"
    )
    initial_checkpoint: str | None = Field(
        None, description=".safetensors or .pth state dict, in the place of pretrained weights"
    )
    expected_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="of the original on the held-out images; where it is another one, the "
        "original fails, and with it all that starts from it",
    )
    accuracy_tolerance: float = Field(
        0.03, gt=0, lt=1, description="how far from expected_accuracy an original may be"
    )
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="for the model's factory"
    )
    train: dict[str, Any] = Field(
        default_factory=dict,
        description="recipe of original and gold standard: epochs, lr, batch_size, …; "
        "without it the given weights are the original",
    )

    @property
    def weights(self) -> bool | str:
        """Return the pretrained weights to load: none where a checkpoint takes their place."""
        return False if self.initial_checkpoint else self.pretrained

    def spec(self, num_classes: int, offline: bool) -> ModelSpec:
        """Return the network to build."""
        return ModelSpec(self.name, num_classes, self.weights, self.options, offline)


class Grid(_Strict):
    """The axes: every method × data set × model × seed is a cell."""

    methods: list[str | dict[str, Any]] = Field(min_length=1)
    datasets: list[DatasetJob] = Field(min_length=1)
    models: list[ModelJob] = Field(min_length=1)
    seeds: list[StrictInt] = Field(min_length=1)


class Resources(_Strict):
    """What one group of cells needs."""

    workers: Positive = 1
    min_workers: Annotated[
        Positive | None,
        Field(
            description="a group starts with so many workers where no more fit, goes on with them "
            "after a node is gone, and grows when nodes come; default always `workers`"
        ),
    ] = None
    cpus_per_worker: Positive = 1
    gpus_per_worker: Annotated[
        float, Field(ge=0, description="0.25 puts four groups on one GPU; above 1, whole ones")
    ] = 0
    trials_at_once: Annotated[
        Positive | None,
        Field(
            description="so many, waiting for nodes that an autoscaler adds; "
            "default as many as fit when the command starts"
        ),
    ] = None
    checkpoint_seconds: Annotated[
        float, Field(ge=0, description="a killed cell loses at most this and a phase")
    ] = 60
    decoded_memory_gb: Annotated[
        float, Field(ge=0, description="decoded images of a node in memory (GiB), at most")
    ] = 8
    decoded_disk_gb: Annotated[
        float | None,
        Field(ge=0, description="those on its local disk (GiB), at most; default what is free"),
    ] = None
    scratch: Annotated[str | None, Field(description="folder for those; default the system's")] = (
        None
    )
    compile: Annotated[
        bool,
        Field(description="compile networks that train; rows say so"),
    ] = False
    max_bad_images: Annotated[
        int, Field(ge=0, description="leave out so many that cannot be decoded; none to forget")
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
            "min_workers is a whole number from 1 to workers, which is {most}",
            {"most": most, "nearest": nearest},
        )

    @property
    def least_workers(self) -> int:
        """Return how few workers a group runs with."""
        return self.min_workers or self.workers

    def trials_on(self, workers: int) -> int:
        """Return how many groups run on so many workers at once.

        Each group takes up to `workers` and the last one the rest, where that is `min_workers`: so
        Ray hands them out too. More and smaller groups would leave none of the size asked for.
        """
        groups, rest = divmod(workers, self.workers)
        return groups + (rest >= self.least_workers)

    @property
    def workers_text(self) -> str:
        """Return how many workers a group has, for messages: 2, or 1 to 2."""
        least = self.least_workers
        return f"{self.workers}" if least == self.workers else f"{least} to {self.workers}"

    @model_validator(mode="after")
    def _gpus_that_exist(self) -> Resources:
        """Refuse what Ray would, and parts of a GPU for workers that talk by NCCL."""
        gpus = self.gpus_per_worker
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("gpus_per_worker above 1 is a whole number")
        if 0 < gpus < 1 and self.workers > 1:
            raise ValueError("workers of one group cannot share a GPU: several take whole ones")
        return self


class Defaults(_Strict):
    """What files that extend this one need not repeat."""

    dataset: dict[str, Any] = Field(
        default_factory=dict, description="of every entry of grid.datasets, key by key"
    )
    methods: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="hyper-parameters by method, used or not"
    )


class Job(_Strict):
    """A job file."""

    extends: str | list[str] | None = Field(
        None, description="files to take over what this one does not say; the later ones win"
    )
    defaults: Defaults = Defaults()
    grid: Grid
    epochs: Positive | None = Field(None, description="of every method that does not say its own")
    batch_size: Positive = Field(128, description="global: workers share it")
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = Field(
        "fp32", description="of products inside the network; weights and metrics stay in fp32"
    )
    resources: Resources = Resources()
    offline: bool = Field(
        False, description="take pretrained weights from the caches of this machine alone"
    )
    store: str = Field(
        min_length=1, description="folder, s3:// or gs:// address of the metric store"
    )

    @model_validator(mode="after")
    def _precision_that_exists(self) -> Job:
        """Refuse before anything runs what no CPU has; other devices are asked where they are."""
        if self.precision == "tf32" and not self.resources.gpus_per_worker:
            raise ValueError("precision tf32 needs a GPU, and resources.gpus_per_worker is 0")
        return self
