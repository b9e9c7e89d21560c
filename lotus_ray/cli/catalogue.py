"""What `lotus-ray list` prints: names and one line about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

Items = list[dict[str, str]]


def _methods() -> Items:
    from lotus_ray.unlearning.methods import METHODS

    return [
        {
            "name": name,
            "label": method.label,
            "about": (method.__doc__ or "").splitlines()[0]
            + " "
            + ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(method)),
        }
        for name, method in METHODS.items()
    ]


def _models() -> Items:
    from lotus_ray.models import names
    from lotus_ray.models.pretrained import CIFAR_RESNET18

    about = {CIFAR_RESNET18: "the paper's ResNet-18 for small images; options: width"}
    return [{"name": name, "about": about.get(name, "")} for name in names()]


def _datasets() -> Items:
    from lotus_ray.data.sources import SOURCES

    return [
        {"name": s.name, "about": s.description + (f": needs {s.layout}" if s.layout else "")}
        for s in SOURCES.values()
    ]


def _metrics() -> Items:
    from lotus_ray.report.columns import METRICS

    return [{"name": name, "about": metric.about} for name, metric in METRICS.items()]


CATALOGUE: dict[str, Callable[[], Items]] = {
    "methods": _methods,
    "models": _models,
    "datasets": _datasets,
    "metrics": _metrics,
}
