"""A job file, validated: which methods, data sets, models and seeds, with what, and where to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lotus_ray import models
from lotus_ray.base.errors import JobError, MethodError, nearest
from lotus_ray.data.sources import find, prepare_command
from lotus_ray.job.method_spec import build_method, describe
from lotus_ray.job.renamed_keys import replace_old_keys
from lotus_ray.job.schema import Job
from lotus_ray.job.yaml_document import Document, dotted
from lotus_ray.models import pretrained
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.methods.salun import Salun

_ORDER = {"original": 0, "gold": 1}  # the others follow as the job lists them


@dataclasses.dataclass(frozen=True)
class LoadedJob:
    """A valid job. `methods[m]` are those of model m: the original first, then gold standards."""

    job: Job
    methods: tuple[tuple[Method, ...], ...]
    document: Document
    notes: tuple[str, ...] = ()  # old keys that it has, and their new names


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
    notes: list[str] = []
    document = Document.read(path, lambda part: notes.extend(replace_old_keys(part)))
    _check_is_a_job(document)
    for assignment in overrides:
        document.override(assignment)
        notes += replace_old_keys(document, overwrite=True)
    for place in range(document.count(("grid", "datasets"))):
        dataset = ("grid", "datasets", place)
        # The name of a setting goes with the forget set that it names.
        own = ("setting",) if document.has((*dataset, "forget")) else ()
        document.fill(dataset, ("defaults", "dataset"), without=own)
    try:
        job = Job.model_validate(document.values)
    except ValidationError as error:
        raise _explained(error, document, Job) from None
    _check_names(job, document)
    _check_defaults(job, document)
    methods = [_methods(job, place, document) for place in range(len(job.grid.models))]
    return LoadedJob(job, tuple(methods), document, tuple(notes))


def _check_is_a_job(document: Document) -> None:
    """Raise JobError where the file describes a cluster, which stands beside the jobs."""
    for keys, what, command in (
        (("cluster_name", "provider"), "a cluster for Ray's launcher", "ray up"),
        (("apiVersion", "kind"), "a Kubernetes manifest", "kubectl create -f"),
    ):
        if all(document.has((key,)) for key in keys):
            raise JobError(
                f"this is {what}, not a job",
                where=document.where(keys[:1]),
                nearest="jobs/digits.yaml",
                next_command=f"{command} {document.file}",
            )


def _methods(job: Job, model: int, document: Document) -> tuple[Method, ...]:
    """Make the methods of one model, each once, in the order in which a group runs them."""
    recipe = job.grid.models[model].train
    train = ("grid", "models", model, "train")
    original = _validated({"name": "original"}, recipe, train, document)
    _check_weights(job, model, document)
    found = [original]
    for place, entry in enumerate(job.grid.methods):
        path = ("grid", "methods", place)
        method = _method(entry, job, recipe, path, document)
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
    job: Job,
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
        raise _unknown_method(name, document.where(path))
    if issubclass(METHODS[name], FromScratch):
        return _from_scratch(description, recipe, path, document)
    description = {**job.defaults.methods.get(name, {}), **description}
    if job.epochs is not None and "epochs" in _fields(METHODS[name]):
        description = {"epochs": job.epochs, **description}
    if issubclass(METHODS[name], Salun):
        inner = description.get("inner", Salun().inner.name)
        built = _method(inner, job, recipe, (*path, "inner"), document)
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
            where = document.where((*path, key))
            raise _recipe_belongs_to_the_model(description["name"], where, document)
    own = {key: value for key, value in description.items() if key != "name"}
    return _validated(description, {**recipe, **own}, path, document)


def _validated(
    named: Mapping[str, Any],
    params: dict[str, Any],
    path: tuple[str | int, ...],
    document: Document,
) -> Method:
    name = named["name"]
    _check_fields(name, params, path, document)
    try:
        return build_method({"name": name, **params})
    except ValidationError as error:
        raise _explained(error, document, None, path) from None
    except MethodError as error:
        raise MethodError(
            error.what,
            where=document.where((*path, error.where) if error.where in params else path),
            next_command=f"lotus-ray validate {document.file}",
        ) from None


def _check_fields(
    name: str, params: Iterable[str], path: tuple[str | int, ...], document: Document
) -> None:
    valid = _fields(METHODS[name])
    unknown = [key for key in params if key not in valid]
    if unknown:
        raise JobError(
            f"unknown hyper-parameter '{unknown[0]}' of {name}",
            where=document.where((*path, unknown[0])),
            nearest=nearest(unknown[0], valid),
            next_command="lotus-ray list methods",
        )


def _unknown_method(name: str, where: str) -> JobError:
    return JobError(
        f"unknown method '{name}'",
        where=where,
        nearest=nearest(name, METHODS),
        next_command="lotus-ray list methods",
    )


def _recipe_belongs_to_the_model(name: str, where: str, document: Document) -> JobError:
    return JobError(
        f"the recipe of {name} belongs to the model: grid.models[].train",
        where=where,
        next_command=f"move it there; lotus-ray validate {document.file}",
    )


def _fields(method: type[Method]) -> list[str]:
    return [field.name for field in dataclasses.fields(method)]


def _check_defaults(job: Job, document: Document) -> None:
    """Raise JobError where a default belongs to no method, or a method has no such setting."""
    for name, settings in job.defaults.methods.items():
        path = ("defaults", "methods", name)
        if name not in METHODS:
            raise _unknown_method(name, document.where(path))
        if issubclass(METHODS[name], FromScratch):
            raise _recipe_belongs_to_the_model(name, document.where(path), document)
        if "inner" not in settings:
            _validated({"name": name}, settings, path, document)
        _check_fields(name, settings, path, document)


def _check_names(job: Job, document: Document) -> None:
    for place, dataset in enumerate(job.grid.datasets):
        if dataset.source is not None:
            where = document.where(("grid", "datasets", place, "source"))
            if not find(dataset.source, where).embedded and dataset.manifest is None:
                raise JobError(
                    f"the files of {dataset.source} have to be prepared first",
                    where=where,
                    nearest=f"manifest: data/{dataset.source}",
                    next_command=prepare_command(dataset.source, f"data/{dataset.source}"),
                )
    for place, model in enumerate(job.grid.models):
        path = ("grid", "models", place)
        models.check_name(model.name, document.where((*path, "name")))
        pretrained.check(model.name, model.weights, document.where((*path, "pretrained")))


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
    return JobError(
        message + shown,
        where=document.where(path),
        nearest=str(first.get("ctx", {}).get("nearest", "")),
        next_command=next_command,
    )


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
