"""A job file, validated: which methods, data sets, models and seeds, with what, and where to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from lotus_ray import models
from lotus_ray.data.images import Transform
from lotus_ray.data.sources import find
from lotus_ray.errors import JobError, MethodError, nearest
from lotus_ray.job_yaml import Document, dotted
from lotus_ray.method_specs import build_method, describe
from lotus_ray.methods import METHODS
from lotus_ray.methods.from_scratch import FromScratch
from lotus_ray.methods.salun import Salun
from lotus_ray.problem import Method

Positive = Annotated[int, Field(ge=1)]
AboveZero = Annotated[float, Field(gt=0)]
_ORDER = {"original": 0, "gold": 1}  # the others follow as the job lists them


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ForgetSet(_Strict):
    """Which training samples to forget: exactly one of these."""

    fraction: float | None = Field(None, gt=0, lt=1, description="part of every class")
    per_class: Positive | None = Field(None, description="so many of every class")
    classes: list[str | int] | None = Field(None, min_length=1, description="whole classes by name")
    ids: str | None = Field(None, description="file of sample ids: .csv, .parquet or one a line")

    @model_validator(mode="after")
    def _exactly_one(self) -> ForgetSet:
        if len(self.model_fields_set & set(type(self).model_fields)) != 1:
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


class DatasetJob(_Strict):
    """One data set: embedded (`source`) or made by `lotus-ray prepare` (`manifest`)."""

    name: str = Field(description="benchmark name in reports, such as CIFAR-10")
    source: str | None = Field(None, description="an embedded data set, such as digits")
    manifest: str | None = Field(None, description="folder that `lotus-ray prepare` made")
    forget: ForgetSet
    retain: RetainSet = RetainSet()
    setting: str | None = Field(None, description="in reports; default says what is forgotten")
    img_size: Positive
    crop_pct: float = Field(1.0, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[AboveZero, AboveZero, AboveZero] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _one_origin(self) -> DatasetJob:
        if (self.source is None) == (self.manifest is None):
            raise ValueError("give either source or manifest")
        return self

    @property
    def transform(self) -> Transform:
        """Return how pixels are made."""
        return Transform(self.img_size, self.crop_pct, self.interpolation, self.mean, self.std)

    @property
    def setting_name(self) -> str:
        """Return the setting's name in reports."""
        return self.setting or self.forget.setting + self.retain.setting


class ModelJob(_Strict):
    """One network and the recipe of its original."""

    name: str = Field(description="see `lotus-ray list models`")
    label: str | None = Field(None, description="in reports; default the name")
    pretrained: bool = False
    initial_checkpoint: str | None = Field(None, description=".safetensors or .pth state dict")
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="for the model's factory"
    )
    train: dict[str, Any] = Field(
        default_factory=dict,
        description="recipe of original and gold standard: epochs, lr, batch_size, …; "
        "without it the given weights are the original",
    )


class Grid(_Strict):
    """The axes: every method × data set × model × seed is a cell."""

    methods: list[str | dict[str, Any]] = Field(min_length=1)
    datasets: list[DatasetJob] = Field(min_length=1)
    models: list[ModelJob] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)


class Resources(_Strict):
    """What one lane of cells needs."""

    workers: Positive = 1
    cpus_per_worker: Positive = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    checkpoint_seconds: Annotated[
        float, Field(ge=0, description="a killed cell loses at most this and a phase")
    ] = 60


class Job(_Strict):
    """A job file."""

    grid: Grid
    epochs: Positive | None = Field(None, description="of every method that does not say its own")
    batch_size: Positive = Field(128, description="global: workers share it")
    precision: Literal["fp32", "fp64"] = "fp32"
    resources: Resources = Resources()
    store: str = Field(min_length=1, description="folder of the metric store")


@dataclasses.dataclass(frozen=True)
class LoadedJob:
    """A valid job. `methods[m]` are those of model m: the original first, then gold standards."""

    job: Job
    methods: tuple[tuple[Method, ...], ...]
    document: Document


def load_job(path: Path, overrides: Sequence[str] = ()) -> LoadedJob:
    """Read and validate a job file.

    Args:
        path: the YAML file.
        overrides: `a.b=c` assignments, applied before validation.

    Returns:
        The job.

    Raises:
        JobError: anything is wrong; the text says what, where and what to do.
        MethodError: a hyper-parameter is out of range.
    """
    document = Document.read(path)
    for assignment in overrides:
        document.override(assignment)
    try:
        job = Job.model_validate(document.values)
    except ValidationError as error:
        raise _explained(error, document, Job) from None
    _check_names(job, document)
    methods = [_methods(job, place, document) for place in range(len(job.grid.models))]
    return LoadedJob(job, tuple(methods), document)


def _methods(job: Job, model: int, document: Document) -> tuple[Method, ...]:
    """Make the methods of one model, each once, in the order in which a lane runs them."""
    recipe = job.grid.models[model].train
    train = ("grid", "models", model, "train")
    original = _validated({"name": "original"}, recipe, train, document)
    _check_weights(job, model, document)
    found = [original]
    for place, entry in enumerate(job.grid.methods):
        path = ("grid", "methods", place)
        method = _method(entry, job.epochs, recipe, path, document)
        if method not in found:
            found.append(method)
    return tuple(sorted(found, key=lambda method: _ORDER.get(method.name, len(_ORDER))))


def _check_weights(job: Job, model: int, document: Document) -> None:
    """Raise JobError where nothing says what the original is, or no gold standard can be had."""
    spec = job.grid.models[model]
    names = [entry if isinstance(entry, str) else entry.get("name") for entry in job.grid.methods]
    if spec.train.get("epochs") or (
        "gold" not in names and (spec.pretrained or spec.initial_checkpoint)
    ):
        return
    what = (
        "a gold standard needs a recipe"
        if spec.pretrained or spec.initial_checkpoint
        else "the original needs a recipe, pretrained weights or an initial_checkpoint"
    )
    raise JobError(
        f"{what}: this model has no train.epochs",
        where=document.where(("grid", "models", model)),
        next_command=f"add train: {{epochs: 20, lr: 0.1}}; lotus-ray validate {document.file}",
    )


def _method(
    entry: Any,
    epochs: int | None,
    recipe: dict[str, Any],
    path: tuple[str | int, ...],
    document: Document,
) -> Method:
    """Make a method from an entry of grid.methods, or from the `inner` of one."""
    description = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(description, dict) or not isinstance(description.get("name"), str):
        raise JobError(
            "a method needs a name",
            where=document.where(path),
            nearest="{name: lotus, alpha: 2}",
            next_command="lotus-ray list methods",
        )
    name = description["name"]
    if name not in METHODS:
        raise JobError(
            f"unknown method '{name}'",
            where=document.where(path),
            nearest=nearest(name, METHODS),
            next_command="lotus-ray list methods",
        )
    if issubclass(METHODS[name], FromScratch):
        return _from_scratch(description, recipe, path, document)
    if epochs is not None and "epochs" in _fields(METHODS[name]):
        description = {"epochs": epochs, **description}
    if issubclass(METHODS[name], Salun):
        inner = description.get("inner", Salun().inner.name)
        built = _method(inner, epochs, recipe, (*path, "inner"), document)
        if isinstance(built, FromScratch | Salun):
            raise JobError(
                f"{name} cannot wrap {built.name}",
                where=document.where((*path, "inner")),
                nearest="one of the methods that unlearn, such as relabel",
                next_command="lotus-ray list methods",
            )
        description = {**description, "inner": describe(built)}
    params = {key: value for key, value in description.items() if key != "name"}
    return _validated(description, params, path, document)


def _from_scratch(
    description: dict[str, Any],
    recipe: dict[str, Any],
    path: tuple[str | int, ...],
    document: Document,
) -> Method:
    """Make the original or a gold standard from the recipe of its model."""
    for key in description:
        if key in _fields(METHODS["original"]):
            raise JobError(
                f"the recipe of {description['name']} belongs to the model: grid.models[].train",
                where=document.where((*path, key)),
                next_command=f"move {key} there; lotus-ray validate {document.file}",
            )
    own = {key: value for key, value in description.items() if key != "name"}
    return _validated(description, {**recipe, **own}, path, document)


def _validated(
    named: Mapping[str, Any],
    params: dict[str, Any],
    path: tuple[str | int, ...],
    document: Document,
) -> Method:
    name = named["name"]
    valid = _fields(METHODS[name])
    unknown = [key for key in params if key not in valid]
    if unknown:
        raise JobError(
            f"unknown hyper-parameter '{unknown[0]}' of {name}",
            where=document.where((*path, unknown[0])),
            nearest=nearest(unknown[0], valid),
            next_command="lotus-ray list methods",
        )
    try:
        return build_method({"name": name, **params})
    except ValidationError as error:
        raise _explained(error, document, None, path) from None
    except MethodError as error:
        raise MethodError(
            error.what,
            where=document.where(path),
            next_command=f"lotus-ray validate {document.file}",
        ) from None


def _fields(method: type[Method]) -> list[str]:
    return [field.name for field in dataclasses.fields(method)]


def _check_names(job: Job, document: Document) -> None:
    for place, dataset in enumerate(job.grid.datasets):
        if dataset.source is not None:
            find(dataset.source, document.where(("grid", "datasets", place, "source")))
    for place, model in enumerate(job.grid.models):
        models.check_name(model.name, document.where(("grid", "models", place, "name")))


def _explained(
    error: ValidationError,
    document: Document,
    model: type[BaseModel] | None,
    prefix: tuple[str | int, ...] = (),
) -> JobError:
    # A misspelt key explains a missing one, so it comes first.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    path = (*prefix, *_without_union_tags(first["loc"]))
    next_command = f"lotus-ray validate {document.file}"
    if first["type"] == "extra_forbidden" and model is not None:
        valid = _keys_at(model, path[:-1])
        return JobError(
            f"unknown key '{path[-1]}'",
            where=document.where(path),
            nearest=nearest(str(path[-1]), valid),
            next_command=next_command,
        )
    if first["type"] == "missing":
        return JobError(
            f"missing key '{dotted(path)}'",
            where=document.where(path),
            next_command=next_command,
        )
    message = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    shown = f", not {value!r}" if isinstance(value, str | int | float | bool) else ""
    return JobError(message + shown, where=document.where(path), next_command=next_command)


def _without_union_tags(place: Sequence[str | int]) -> list[str | int]:
    """Drop what pydantic adds after an item of a list whose items may be of several types."""
    return [
        key
        for before, key in zip((None, *place), place, strict=False)
        if not (isinstance(before, int) and str(key).startswith(("str", "dict[", "int")))
    ]


def _keys_at(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """Return the valid keys of the mapping at `path` of a job."""
    for key in path:
        if isinstance(key, int):
            continue
        found = _model_in(model.model_fields[key].annotation)
        if found is None:
            return []
        model = found
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
