"""A data set of a job: its images, the images to forget, and the transform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr, field_validator, model_validator

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.job.schema.fields import AboveZero, Positive, Strict
from lotus_ray.models.preparation import Preparation

_OF_MODEL = "default: as the model's given weights want it; without weights 1, bicubic, 0.5, 0.5"


class ForgetSet(Strict):
    """The training samples to forget: exactly one of these keys."""

    fraction: float | None = Field(None, gt=0, lt=1, description="part of every class")
    per_class: Positive | None = Field(None, description="this many samples of every class")
    classes: list[StrictStr | StrictInt] | None = Field(
        None, min_length=1, description="all samples of these classes, by name"
    )
    ids: str | None = Field(None, description="file of sample ids: .csv, .parquet or one per line")
    by: str | None = Field(
        None,
        description="table, .csv or .parquet, of which `key` and `values` choose the rows",
    )
    key: str | None = Field(None, description="column of `by`, such as user_id")
    values: list[StrictStr | StrictInt] | None = Field(None, min_length=1)
    column: str | None = Field(None, description="of ids, in `ids` or `by`; default sample_id")
    corrupted: Literal[True] | None = Field(
        None, description="the images that label_noise or corrupt gave wrong labels"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> ForgetSet:
        names = ("fraction", "per_class", "classes", "ids", "by", "corrupted")
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise ValueError(f"give exactly one of {', '.join(names)}")
        if (self.by is None) != (self.key is None) or (self.by is None) != (self.values is None):
            raise ValueError("by, key and values belong together")
        if self.column is not None and self.ids is None and self.by is None:
            raise ValueError("column belongs to ids or by")
        return self

    @property
    def setting(self) -> str:
        """The name of the setting in reports."""
        if self.fraction is not None:
            return f"instance_{self.fraction * 100:g}pct"
        if self.per_class is not None:
            return f"instance_{self.per_class}perclass"
        if self.classes is not None:
            return "class_" + "_".join(str(name) for name in self.classes)
        if self.corrupted:
            return "corrupted"
        if self.by is not None:
            few = [str(value) for value in self.values or ()][:4]
            return f"{self.key}_" + "_".join(few) + ("_…" if len(self.values or ()) > 4 else "")
        return f"ids_{Path(self.ids or '').stem}"


class Subset(Strict):
    """A part of the data set for quick runs; a smaller part is contained in a larger one."""

    train_per_class: Positive | None = None
    heldout_per_class: Positive | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Subset:
        if self.train_per_class is None and self.heldout_per_class is None:
            raise ValueError("give train_per_class, heldout_per_class or both")
        return self

    @property
    def setting(self) -> str:
        """A part of the setting's name in reports."""
        counts = (self.train_per_class, self.heldout_per_class)
        return "_subset" + "+".join("all" if count is None else str(count) for count in counts)


class Corruption(Strict):
    """Training images with wrong labels: a share of two classes has the label of the other."""

    swap: tuple[StrictStr | StrictInt, StrictStr | StrictInt] = Field(
        description="two classes, by name"
    )
    share: float = Field(gt=0, le=1, description="of the training images of each of the two")

    @property
    def setting(self) -> str:
        """A part of the setting's name in reports."""
        return f"_swap-{self.swap[0]}-{self.swap[1]}-{self.share * 100:g}pct"


class RetainSet(Strict):
    """The other training samples that methods may use: all, or one of these keys."""

    fraction: Annotated[float, Field(gt=0, le=1)] | None = None  # part of every class
    per_class: Positive | None = None  # this many samples of every class
    without: str | None = Field(
        default=None,
        description="file of training ids that play no role: forgotten by earlier requests",
    )

    @model_validator(mode="after")
    def _at_most_one(self) -> RetainSet:
        if self.fraction is not None and self.per_class is not None:
            raise ValueError("give either fraction or per_class")
        return self

    @property
    def setting(self) -> str:
        """The end of the setting's name in reports."""
        if self.fraction is not None:
            return f"_retain{self.fraction * 100:g}pct"
        return "" if self.per_class is None else f"_retain{self.per_class}"


class CalibrationSet(Strict):
    """Images that LoTUS uses instead of the unseen set, to measure accuracy on new images."""

    manifest: str = Field(
        description="folder from `lotus-ray prepare`; its classes are named as in the data set"
    )

    @field_validator("manifest")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("a calibration set must be a folder: copy it to one")
        return value


class ParquetFiles(Strict):
    """External Parquet files, read in place: addresses, folders or patterns with *."""

    train: list[str] | None = Field(
        None, min_length=1, description="on a disk, s3://, gs:// or hf://"
    )
    heldout: list[str] | None = Field(None, min_length=1)
    repository: str | None = Field(
        None,
        description="folder of a Hugging Face repository instead: its card and its files' names "
        "say the splits, columns and classes",
    )
    config: str | None = Field(None, description="of the repository, where it has several")
    train_split: str | None = Field(None, description="of the repository; default train")
    heldout_split: str | None = Field(
        None, description="of the repository; default validation, or else test"
    )
    image: str = Field("image", description="column: a struct with bytes, or bytes")
    label: str = Field("label", description="column: integers from 0 on, or names of classes")
    classes: list[str] | None = Field(None, description="default: the names in the files")

    @model_validator(mode="after")
    def _one_way(self) -> ParquetFiles:
        by_file = [self.train, self.heldout]
        of_repository = (self.config, self.train_split, self.heldout_split)
        if self.repository is None and (None in by_file or any(of_repository)):
            raise ValueError("give train and heldout, or the folder of a repository")
        if self.repository is not None and by_file != [None, None]:
            raise ValueError("give either train and heldout, or a repository")
        return self


class DatasetJob(Strict):
    """One data set: embedded (`source`), prepared (`manifest`) or your own files (`parquet`)."""

    name: str = Field(description="benchmark name in reports, such as CIFAR-10")
    source: str | None = Field(None, description="see `lotus-ray list datasets`")
    manifest: str | None = Field(
        None,
        description="folder from `lotus-ray prepare`, here or in a bucket: s3://, gs://; "
        "an embedded source needs none",
    )
    parquet: ParquetFiles | None = Field(None, description="external files, read in place")
    forget: ForgetSet
    retain: RetainSet = RetainSet()
    calibration: CalibrationSet | None = Field(
        None, description="such as synthetic images; default the unseen half of the held-out split"
    )
    subset: Subset | None = Field(
        None, description="cut the set for quick runs; part of a cell's identity"
    )
    label_noise: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the training images of each class that get a wrong label",
    )
    corrupt: Corruption | None = Field(
        None, description="wrong labels of training images, instead of label_noise"
    )
    num_classes: Positive | None = Field(None, description="checked against the data")
    setting: str | None = Field(
        None, description="name in reports; default: made from the forget set"
    )
    img_size: Positive
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description=_OF_MODEL)
    interpolation: Literal["bicubic", "bilinear"] | None = Field(None, description=_OF_MODEL)
    mean: tuple[float, float, float] | None = Field(None, description=_OF_MODEL)
    std: tuple[AboveZero, AboveZero, AboveZero] | None = Field(None, description=_OF_MODEL)
    decoder: Literal["exact", "fast"] = Field(
        "exact", description="exact is Pillow; fast is for JPEG and differs by at most 2 of 255"
    )

    shuffle_window: Positive | None = Field(
        None,
        description="shuffle an epoch within windows of this many images in stored order, "
        "so that retained images that do not fit the cache are streamed; default: all at once",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> DatasetJob:
        if self.parquet is not None and (self.source or self.manifest):
            raise ValueError("give either parquet, or a source or manifest")
        if self.parquet is None and self.source is None and self.manifest is None:
            raise ValueError("give a source that is embedded, a manifest, or parquet")
        return self

    @model_validator(mode="after")
    def _one_corruption(self) -> DatasetJob:
        if self.label_noise is not None and self.corrupt is not None:
            raise ValueError("give either label_noise or corrupt")
        if self.forget.corrupted and self.label_noise is None and self.corrupt is None:
            raise ValueError("forget.corrupted needs label_noise or corrupt")
        return self

    def transform_for(self, own: Preparation | None) -> Transform:
        """Return the transform from images to pixels.

        Args:
            own: how the given weights of the model want images, where the job does not say.
        """
        default = own or Preparation()
        return Transform(
            self.img_size,
            default.crop_pct if self.crop_pct is None else self.crop_pct,
            self.interpolation or default.interpolation,
            self.mean or default.mean,
            self.std or default.std,
            self.decoder,
        )

    @property
    def setting_name(self) -> str:
        """The setting's name in reports. It always says how the data set was changed."""
        calibrated = (
            f"_calibrated-{Path(self.calibration.manifest).name}" if self.calibration else ""
        )
        noise = f"_noise{self.label_noise * 100:g}pct" if self.label_noise is not None else ""
        parts = [each.setting for each in (self.subset, self.corrupt) if each is not None]
        changed = "".join([*parts, noise])
        if self.setting:
            return self.setting + changed
        return self.forget.setting + self.retain.setting + changed + calibrated
