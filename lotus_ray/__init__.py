"""lotus-ray: a distributed batch runner for machine unlearning of image classifiers, on Ray."""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for those who write a plug-in: see docs/plugins.md
    from lotus_ray.base.errors import UndefinedMetric
    from lotus_ray.data.sources.images import Images, Item, Source, index_of
    from lotus_ray.metrics.outputs import Outputs
    from lotus_ray.metrics.own import metric
    from lotus_ray.models.own import model
    from lotus_ray.unlearning.contract import Batch, Phase, SampleSet, Workers
    from lotus_ray.unlearning.method import Method
    from lotus_ray.unlearning.problem import Problem

__version__ = version("lotus-ray")
__all__ = [
    "Batch",
    "Images",
    "Item",
    "Method",
    "Outputs",
    "Phase",
    "Problem",
    "SampleSet",
    "Source",
    "UndefinedMetric",
    "Workers",
    "index_of",
    "metric",
    "model",
]

# Imported when they are asked for: `import lotus_ray` imports neither torch nor Ray.
_HOMES = {
    "Batch": "unlearning.contract",
    "Images": "data.sources.images",
    "Item": "data.sources.images",
    "Method": "unlearning.method",
    "Outputs": "metrics.outputs",
    "Phase": "unlearning.contract",
    "Problem": "unlearning.problem",
    "SampleSet": "unlearning.contract",
    "Source": "data.sources.images",
    "UndefinedMetric": "base.errors",
    "Workers": "unlearning.contract",
    "index_of": "data.sources.images",
    "metric": "metrics.own",
    "model": "models.own",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lotus_ray' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lotus_ray.{_HOMES[name]}"), name)
