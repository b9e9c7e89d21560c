"""Methods as plain values and back: a cell's spec holds the values, a worker builds the method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS


def describe(method: Method) -> dict[str, Any]:
    """Return name, version and hyper-parameters of a method as plain values.

    Newer hyper-parameters that have their default are left out: see `NEWER`.
    """
    params = {
        field.name: _plain(value)
        for field in dataclasses.fields(method)
        if (value := getattr(method, field.name)) != field.default
        or not field.metadata.get("newer", False)
    }
    return {"name": method.name, "version": method.version, **params}


def _plain(value: Any) -> Any:
    """Return what JSON gives back as it is."""
    if isinstance(value, Method):
        return describe(value)
    return list(value) if isinstance(value, tuple) else value


def build_method(description: Mapping[str, Any]) -> Method:
    """Make a method from plain values.

    Args:
        description: from `describe`. Everything except `name` has a default.

    Raises:
        pydantic.ValidationError: a value has a wrong type.
        MethodError: a value is out of range.
    """
    params = {name: v for name, v in description.items() if name not in ("name", "version")}
    if isinstance(params.get("inner"), Mapping):
        params["inner"] = build_method(params["inner"])
    return TypeAdapter(METHODS[description["name"]]).validate_python(params)
