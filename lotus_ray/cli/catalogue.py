"""The names that `lotus-ray list` prints, with one line about each."""

from __future__ import annotations

from collections.abc import Callable

Items = list[dict[str, str]]


def _methods() -> Items:
    from lotus_ray.cli.method_source import read_methods

    return read_methods()


def _models() -> Items:
    """List the networks of timm and torchvision. Only this list imports torch."""
    from lotus_ray.models import names

    about = {
        "resnet18_cifar": "the usual ResNet-18 for small images; options: width",
        "resnet18_lotus": "the LoTUS paper's ResNet-18: max-pool, bare shortcuts; options: width",
    }
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
