"""Turn the methods of a job (grid.methods, and recipes of models) into Method objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, MethodError, nearest
from lotus_ray.job.explain import explain
from lotus_ray.job.method_entry import MethodEntry, check_has_no_batch_size, without_batch_size
from lotus_ray.job.method_spec import build_method, describe
from lotus_ray.job.schema.job import Job
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import KeyPath
from lotus_ray.unlearning.find_method import find_method, method_names
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS, registered_name
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.methods.salun import Salun

_ORDER = {"original": 0, "gold": 1}  # the others follow as the job lists them


def methods_of(job: Job, model: int, document: Document) -> tuple[MethodEntry, ...]:
    """Make the methods of one model, each once, in the order in which a group runs them.

    The batch size of an entry goes before that of defaults.methods, and that before the job's.

    Args:
        job: the job.
        model: index in grid.models.
        document: the job's file, for errors.

    Raises:
        JobError: an entry is wrong, or the model has neither a recipe nor weights.
        MethodError: a hyper-parameter is out of range.
    """
    recipe = job.grid.models[model].train
    original = _validated("original", recipe, ("grid", "models", model, "train"), document)
    _check_weights(job, model, document)
    entries = [MethodEntry(original, job.batch_size)]
    for index, given in enumerate(job.grid.methods):
        method, size = _method(given, job, recipe, ("grid", "methods", index), document)
        entry = MethodEntry(method, size or job.batch_size)
        if entry not in entries:
            entries.append(entry)
    return tuple(sorted(entries, key=lambda entry: _ORDER.get(entry.method.name, len(_ORDER))))


def check_defaults(job: Job, document: Document) -> None:
    """Raise JobError if a default belongs to no method, or a method has no such setting."""
    given: dict[str, str] = {}
    for written, settings in job.defaults.methods.items():
        path = ("defaults", "methods", written)
        name = registered_name(written)
        if given.setdefault(name, written) != written:
            raise JobError(
                f"'{given[name]}' and '{written}' are the same method",
                where=document.where(path),
                next_command=f"write both under {name}; lotus-ray validate {document.file}",
            )
        method = find_method(name)
        if method is None:
            raise _unknown_method(name, document.where(path))
        if issubclass(method, FromScratch):
            raise _recipe_belongs_to_the_model(name, document.where(path), document)
        params, _ = without_batch_size(settings, path, document)
        if "inner" not in params:
            _validated(name, params, path, document)
        _check_fields(name, params, path, document)


def _check_weights(job: Job, model: int, document: Document) -> None:
    """Raise JobError if there is no recipe or weights for the original, or no recipe for gold."""
    spec = job.grid.models[model]
    given = [entry if isinstance(entry, str) else entry.get("name") for entry in job.grid.methods]
    names = [registered_name(name) for name in given if isinstance(name, str)]
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
    entry: Any, job: Job, recipe: Mapping[str, Any], path: KeyPath, document: Document
) -> tuple[Method, int | None]:
    """Make a method from an entry of grid.methods, or from the `inner` of one; and its batch size.

    The batch size is None where neither the entry nor the defaults give one.
    """
    name, params = _name_and_params(entry, path, document)
    found = _known(name)
    if issubclass(found, FromScratch):
        return _from_scratch(name, params, recipe, path, document), None
    params = {**_defaults_of(name, job), **params}
    params, batch_size = without_batch_size(params, path, document)
    if job.epochs is not None and "epochs" in _fields(found):
        params = {"epochs": job.epochs, **params}
    if issubclass(found, Salun):
        inner = params.get("inner", Salun().inner.name)
        check_has_no_batch_size(inner, name, (*path, "inner"), document)
        built, _ = _method(inner, job, recipe, (*path, "inner"), document)
        if not built.maskable:
            raise JobError(
                f"{name} cannot wrap {built.name}",
                where=document.where((*path, "inner")),
                nearest="one of the methods that unlearn, such as relabel",
                next_command="lotus-ray list methods",
            )
        params = {**params, "inner": describe(built)}
    return _validated(name, params, path, document), batch_size


def _defaults_of(name: str, job: Job) -> dict[str, Any]:
    """Return the job's defaults for a method, which may stand under its label."""
    given = job.defaults.methods.items()
    return next((dict(own) for written, own in given if registered_name(written) == name), {})


def _name_and_params(
    entry: Any, path: KeyPath, document: Document
) -> tuple[str, Mapping[str, Any]]:
    """Return the name and hyper-parameters of an entry.

    Raises:
        JobError: the entry has no name, or an unknown one.
    """
    description = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(description, dict) or not isinstance(description.get("name"), str):
        raise JobError(
            "a method needs a name",
            where=document.where(path),
            nearest="{name: lotus, alpha: 2}",
            next_command="lotus-ray list methods",
        )
    name = registered_name(description["name"])
    plugins.check_free("method", description["name"], name != description["name"])
    if find_method(name) is None:
        raise _unknown_method(name, document.where(path))
    return name, {key: value for key, value in description.items() if key != "name"}


def _from_scratch(
    name: str,
    params: Mapping[str, Any],
    recipe: Mapping[str, Any],
    path: KeyPath,
    document: Document,
) -> Method:
    """Make the original or a gold standard from the recipe of its model."""
    for key in params:
        if key in _fields(METHODS["original"]):
            raise _recipe_belongs_to_the_model(name, document.where((*path, key)), document)
    return _validated(name, {**recipe, **params}, path, document)


def _validated(name: str, params: Mapping[str, Any], path: KeyPath, document: Document) -> Method:
    """Make a method from hyper-parameters that are at `path` of the document."""
    _check_fields(name, params, path, document)
    try:
        return build_method({"name": name, "code": _known(name).code, **params})
    except ValidationError as error:
        raise explain(error, document, path) from None
    except MethodError as error:
        raise MethodError(
            error.what,
            where=document.where((*path, error.where) if error.where in params else path),
            next_command=f"lotus-ray validate {document.file}",
        ) from None


def _check_fields(name: str, params: Iterable[str], path: KeyPath, document: Document) -> None:
    valid = _fields(_known(name))
    unknown = [key for key in params if key not in valid]
    if unknown:
        raise JobError(
            f"unknown hyper-parameter '{unknown[0]}' of {name}",
            where=document.where((*path, unknown[0])),
            nearest=nearest(unknown[0], [*valid, "batch_size"]),
            next_command="lotus-ray list methods",
        )


def _known(name: str) -> type[Method]:
    method = find_method(name)
    assert method is not None, name
    return method


def _fields(method: type[Method]) -> list[str]:
    return [field.name for field in dataclasses.fields(method)]


def _unknown_method(name: str, where: str) -> JobError:
    return JobError(
        f"unknown method '{name}'{plugins.looked_at()}",
        where=where,
        nearest=nearest(name, method_names()),
        next_command="lotus-ray list methods",
    )


def _recipe_belongs_to_the_model(name: str, where: str, document: Document) -> JobError:
    return JobError(
        f"the recipe of {name} belongs to the model: grid.models[].train",
        where=where,
        next_command=f"move it there; lotus-ray validate {document.file}",
    )
