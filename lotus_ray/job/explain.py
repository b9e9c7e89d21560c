"""Turn pydantic's errors about a job into one error with file, line and nearest valid key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ValidationError

from lotus_ray.base.errors import JobError, nearest
from lotus_ray.job.schema.job import Job
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import KeyPath, dotted


def explain(error: ValidationError, document: Document, prefix: KeyPath = ()) -> JobError:
    """Return an error for the most important problem.

    Args:
        error: about a job, or a part of it.
        document: holds the values that pydantic refused.
        prefix: path of the part in the document; () is the job itself.
    """
    # A misspelt key explains a missing one, so it comes first.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    path = (*prefix, *_without_union_tags(first["loc"]))
    next_command = f"lotus-ray validate {document.file}"
    if first["type"] == "extra_forbidden":
        return JobError(
            f"unknown key '{path[-1]}'",
            where=document.where(path),
            nearest=nearest(str(path[-1]), _keys_at(path[:-1])),
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
        nearest=str(first.get("ctx", {}).get("nearest", "") or _number(value)),
        next_command=next_command,
    )


def _number(value: Any) -> str:
    """Return the number that people mean by 010, 1_000 or 0x10, which are texts in a job."""
    for base in (10, 0):
        with suppress(ValueError, TypeError):
            return str(int(value, base))
    return ""


def _without_union_tags(path: Sequence[str | int]) -> list[str | int]:
    """Drop the type names that pydantic adds to a path if an item may have several types."""
    return [
        key
        for before, key in zip((None, *path), path, strict=False)
        if not (isinstance(before, int) and str(key).startswith(("str", "dict[", "int")))
    ]


def _keys_at(path: Iterable[str | int]) -> list[str]:
    """Return the valid keys of the mapping at `path` of a job."""
    model: type[BaseModel] = Job
    for key in path:
        if isinstance(key, int) or key not in model.model_fields:  # of a list, or of a mapping
            continue
        part = _model_in(model.model_fields[key].annotation)
        if part is None:
            return []
        model = part
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the part of the schema in a type such as `list[DatasetJob]`."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
