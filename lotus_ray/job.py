"""A job file, validated: which methods, data sets, models and seeds, with what, and where to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lotus_ray import models
from lotus_ray.data.images import Transform
from lotus_ray.data.sources import find
from lotus_ray.errors import JobError, MethodError, nearest
from lotus_ray.job_yaml import Document, dotted
from lotus_ray.methods import METHODS
from lotus_ray.methods.from_scratch import FromScratch
from lotus_ray.problem import Method

Positive = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ForgetSet(_Strict):
    """Which training samples to forget."""

    fraction: float = Field(gt=0, lt=1, description="part of every class's training samples")


class DatasetJob(_Strict):
    """One data set: embedded (`source`) or made by `lotus-ray prepare` (`manifest`)."""

    name: str = Field(description="benchmark name in reports, such as CIFAR-10")
    source: str | None = Field(None, description="an embedded data set, such as digits")
    manifest: str | None = Field(None, description="folder that `lotus-ray prepare` made")
    forget: ForgetSet
    setting: str | None = Field(None, description="in reports; default instance_<n>pct")
    img_size: Positive
    crop_pct: float = Field(1.0, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

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
        return self.setting or f"instance_{self.forget.fraction * 100:g}pct"


class ModelJob(_Strict):
    """One network and the recipe of its original."""

    name: str = Field(description="see `lotus-ray list models`")
    label: str | None = Field(None, description="in reports; default the name")
    pretrained: bool = False
    initial_checkpoint: str | None = Field(None, description=".safetensors or .pth state dict")
    options: dict[str, Any] = Field(default_factory=dict, description="for the model's factory")
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


class Job(_Strict):
    """A job file."""

    grid: Grid
    epochs: Positive | None = Field(None, description="of every method that does not say its own")
    batch_size: Positive = Field(128, description="global: workers share it")
    precision: Literal["fp32", "fp64"] = "fp32"
    resources: Resources = Resources()
    store: str = Field(description="folder of the metric store")


@dataclasses.dataclass(frozen=True)
class LoadedJob:
    """A valid job with what its file says about methods and models made into objects."""

    job: Job
    methods: tuple[Method, ...]  # without original and gold, which depend on the model
    recipes: tuple[dict[str, Any], ...]  # by model
    wants_gold: bool
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
    names, methods = [], []
    for place, entry in enumerate(job.grid.methods):
        name, method = _method(entry, job, ("grid", "methods", place), document)
        names.append(name)
        methods.append(method)
    recipes = tuple(
        _recipe(model.train, ("grid", "models", place, "train"), document)
        for place, model in enumerate(job.grid.models)
    )
    _check_gold(names, recipes, document)
    rivals = [m for m in methods if m is not None]
    return LoadedJob(job, tuple(rivals), recipes, "gold" in names, document)


def build_method(name: str, params: dict[str, Any]) -> Method:
    """Make a method of METHODS from plain values.

    Raises:
        pydantic.ValidationError: an unknown name or a wrong type.
        MethodError: a value out of range.
    """
    return TypeAdapter(METHODS[name]).validate_python(params)


def params_of(method: Method) -> dict[str, Any]:
    """Return the hyper-parameters of a method as plain values."""
    return dataclasses.asdict(method)


def _method(
    entry: str | dict[str, Any], job: Job, path: tuple[str | int, ...], document: Document
) -> tuple[str, Method | None]:
    params = {} if isinstance(entry, str) else dict(entry)
    name = entry if isinstance(entry, str) else params.pop("name", None)
    if not isinstance(name, str):
        raise JobError(
            "a method needs a name",
            where=document.where(path),
            nearest="{name: lotus, alpha: 2}",
            next_command="lotus-ray list methods",
        )
    if name not in METHODS:
        raise JobError(
            f"unknown method '{name}'",
            where=document.where(path),
            nearest=nearest(name, METHODS),
            next_command="lotus-ray list methods",
        )
    if issubclass(METHODS[name], FromScratch):
        if params:
            raise JobError(
                f"the recipe of {name} belongs to the model: grid.models[].train",
                where=document.where(path),
            )
        return name, None
    if job.epochs is not None and "epochs" in _fields(METHODS[name]):
        params = {"epochs": job.epochs, **params}
    return name, _validated(METHODS[name], params, path, document)


def _recipe(
    train: dict[str, Any], path: tuple[str | int, ...], document: Document
) -> dict[str, Any]:
    method = _validated(METHODS["original"], train, path, document)
    return params_of(method)


def _validated(
    method: type[Method], params: dict[str, Any], path: tuple[str | int, ...], document: Document
) -> Method:
    unknown = [key for key in params if key not in _fields(method)]
    if unknown:
        raise JobError(
            f"unknown hyper-parameter '{unknown[0]}' of {method.name}",
            where=document.where((*path, unknown[0])),
            nearest=nearest(unknown[0], _fields(method)),
            next_command="lotus-ray list methods",
        )
    try:
        return build_method(method.name, params)
    except ValidationError as error:
        raise _explained(error, document, None, path) from None
    except MethodError as error:
        raise MethodError(error.what, where=document.where(path)) from None


def _fields(method: type[Method]) -> list[str]:
    return [field.name for field in dataclasses.fields(method)]


def _check_names(job: Job, document: Document) -> None:
    for place, dataset in enumerate(job.grid.datasets):
        if dataset.source is not None:
            find(dataset.source, document.where(("grid", "datasets", place, "source")))
    for place, model in enumerate(job.grid.models):
        models.check_name(model.name, document.where(("grid", "models", place, "name")))


def _check_gold(names: list[str], recipes: tuple[dict[str, Any], ...], document: Document) -> None:
    for place, recipe in enumerate(recipes):
        if "gold" in names and not recipe["epochs"]:
            raise JobError(
                "a gold standard needs a recipe: this model has no train.epochs",
                where=document.where(("grid", "models", place)),
                next_command=f"remove gold from grid.methods, or add train to {document.file}",
            )


def _explained(
    error: ValidationError,
    document: Document,
    model: type[BaseModel] | None,
    prefix: tuple[str | int, ...] = (),
) -> JobError:
    first = error.errors()[0]
    path = (*prefix, *(key for key in first["loc"] if not _is_union_tag(key)))
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


def _is_union_tag(key: str | int) -> bool:
    return isinstance(key, str) and (key == "str" or key.startswith("dict["))


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
