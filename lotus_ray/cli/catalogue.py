"""The names that `lotus-ray list` prints, with one line about each."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from fnmatch import fnmatch

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, nearest

Items = list[dict[str, str]]


def _methods() -> Items:
    from lotus_ray.cli.method_source import read_methods

    return read_methods()


def _models() -> Items:
    """List the networks of timm and torchvision. Only this list imports torch."""
    from lotus_ray.models import families

    about = {
        "resnet18_cifar": "the usual ResNet-18 for small images; options: width",
        "resnet18_lotus": "the LoTUS paper's ResNet-18: max-pool, bare shortcuts; options: width",
    }
    return [
        {"name": name, "about": about.get(name, ""), "family": family}
        for family, members in families().items()
        for name in members
    ]


def _datasets() -> Items:
    from lotus_ray.data.sources import SOURCES

    return [
        {"name": s.name, "about": s.description + (f": needs {s.layout}" if s.layout else "")}
        for s in SOURCES.values()
    ]


def _metrics() -> Items:
    from lotus_ray.report.columns import METRICS

    return [{"name": name, "about": metric.about} for name, metric in METRICS.items()]


def _jobs() -> Items:
    from lotus_ray.job import bundled

    return [{"name": name, "about": bundled.about(path)} for name, path in bundled.files().items()]


def of_plugins(kind: str) -> Items:
    """List the plug-ins of a kind, as `methods`. They are imported. None is a job."""
    if kind not in KINDS:
        return []
    return [_of_plugin(name, KINDS[kind]) for name in plugins.names(KINDS[kind])]


def _of_plugin(name: str, kind: plugins.Kind) -> dict[str, str]:
    plugin = plugins.find(kind, name)
    assert plugin is not None, name
    value = plugin.value
    about = getattr(value, "about", "") or getattr(value, "description", "")
    if kind in ("method", "model"):
        about = inspect.cleandoc(value.__doc__ or "").partition("\n")[0]
    label, settings = {}, ""
    if kind == "model":
        label = {"family": "plug-ins"}
    if kind == "method":
        label = {"label": value.label}
        settings = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(value))
    text = " ".join(part for part in (about, settings, f"({plugin.code.origin})") if part)
    return {"name": name, **label, "about": text}


KINDS: dict[str, plugins.Kind] = {
    "methods": "method",
    "models": "model",
    "datasets": "source",
    "metrics": "metric",
}
CATALOGUE: dict[str, Callable[[], Items]] = {
    "methods": _methods,
    "models": _models,
    "datasets": _datasets,
    "metrics": _metrics,
    "jobs": _jobs,
}


def filtered(items: Items, wanted: str | None, kind: str) -> Items:
    """Return the items whose name, label or family holds a text, or matches a pattern with *.

    Raises:
        JobError: there is none.
    """
    if wanted is None:
        return items
    pattern = wanted.lower() if set("*?[") & set(wanted) else f"*{wanted.lower()}*"
    keys = ("name", "label", "family")
    found = [i for i in items if any(fnmatch(i.get(key, "").lower(), pattern) for key in keys)]
    if not found:
        raise JobError(
            f"no name of {kind} holds '{wanted}'",
            nearest=nearest(wanted, [item["name"] for item in items]),
            next_command=f"lotus-ray list {kind}",
        )
    return found


def family_lines(items: Items) -> list[str]:
    """Return one line for each family of models: its name, how many there are, and the first."""
    families: dict[str, list[str]] = {}
    for item in items:
        families.setdefault(item["family"], []).append(item["name"])
    width = max(map(len, families))
    return [
        f"{family:{width}}  {len(members):4}  {', '.join(members[:3])}"
        + (", …" if len(members) > 3 else "")
        for family, members in families.items()
    ]


def lines_of(items: Items) -> list[str]:
    """Return one line for each item; models stand under their family."""
    width = max(len(item["name"]) for item in items)
    lines: list[str] = []
    family = None
    for item in items:
        if item.get("family") != family:
            family = item.get("family")
            lines.append(f"{family}:")
        indent = "  " if family else ""
        lines.append(f"{indent}{item['name']:{width}}  {item['about']}".rstrip())
    return lines
