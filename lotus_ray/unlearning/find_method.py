"""Find a method by name: one of METHODS, or one of a plug-in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lotus_ray.base import plugins
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS


def find_method(name: str) -> type[Method] | None:
    """Return the method that a job means by a name; None if there is none.

    Raises:
        PluginError: the plug-in cannot be imported, or has the name of a built-in method.
    """
    plugins.check_free("method", name, name in METHODS)
    if name in METHODS:
        return METHODS[name]
    plugin = plugins.find("method", name)
    value: type[Method] | None = None if plugin is None else plugin.value
    return value


def method_names() -> list[str]:
    """Return the names of all methods that a job may use."""
    return [*METHODS, *plugins.names("method")]


def described_method(description: Mapping[str, Any]) -> type[Method]:
    """Return the method of a cell, of exactly the code that its description names.

    Args:
        description: of the method in the cell's spec.

    Raises:
        PluginError: this process has not imported the plug-in.
    """
    name, code = description["name"], description.get("code", "")
    if not code:
        return METHODS[name]
    value: type[Method] = plugins.loaded("method", name, code).value
    return value
