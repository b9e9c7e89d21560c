"""Methods as plain values and back: a cell's spec holds the values, a worker builds the method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from lotus_ray.unlearning.find_method import described_method
from lotus_ray.unlearning.method import Method

_NOT_PARAMS = ("name", "version", "code")


def describe(method: Method) -> dict[str, Any]:
    """Return name, version, code and hyper-parameters of a method as plain values.

    The code is the digest of a plug-in's source. Newer hyper-parameters that have their default
    are left out: see `NEWER`.
    """
    params = {
        field.name: _plain(value)
        for field in dataclasses.fields(method)
        if (value := getattr(method, field.name)) != field.default
        or not field.metadata.get("newer", False)
    }
    code = {"code": method.code} if method.code else {}  # of a plug-in
    return {"name": method.name, "version": method.version, **code, **params}


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
        PluginError: the method is a plug-in that this process has not imported.
    """
    params = {name: v for name, v in description.items() if name not in _NOT_PARAMS}
    if isinstance(params.get("inner"), Mapping):
        params["inner"] = build_method(params["inner"])
    return TypeAdapter(described_method(description)).validate_python(params)
