"""Which plug-ins cells use: their names and digests are in the cells' specs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lotus_ray.base import plugins
from lotus_ray.base.plugins import Kind, Plugin
from lotus_ray.job.cells import Cell


def used_by(cells: Iterable[Cell]) -> list[Plugin]:
    """Return the plug-ins that some cells use, each once.

    Raises:
        PluginError: this process has not imported one.
    """
    return list(dict.fromkeys(plugin for cell in cells for plugin in _of_cell(cell.spec)))


def _of_cell(spec: Mapping[str, Any]) -> Iterator[Plugin]:
    method: Any = spec["method"]
    while isinstance(method, Mapping):
        yield from _one("method", method)
        method = method.get("inner")
    yield from _one("model", spec["model"])
    for metric in spec.get("own_metrics", ()):
        yield from _one("metric", metric)


def _one(kind: Kind, description: Mapping[str, Any]) -> Iterator[Plugin]:
    if code := description.get("code"):
        yield plugins.loaded(kind, description["name"], code)
