"""lotus-ray: a distributed batch runner for machine unlearning of image classifiers, on Ray.

From Python (docs/python.md):

    run(job)                                    run a grid; its rows, its table, its outcome
    open_store(uri)                             rows of a store, as a table, data frame or page
    evaluate(job, weights=FILE)                 a row of weights or predictions from elsewhere
    unlearn(model, forget, retain, unseen)      unlearn in memory, without Ray, YAML or a store
    LotusRayError                               every error that a user can meet

The other names are for those who write a plug-in (docs/plugins.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lotus_ray.base.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from lotus_ray.base.errors import LotusRayError, UndefinedMetric
    from lotus_ray.data.sources.images import Images, Item, Source, index_of
    from lotus_ray.grid.run_job import evaluate, run
    from lotus_ray.metrics.outputs import Outputs
    from lotus_ray.metrics.own import metric
    from lotus_ray.models.own import model
    from lotus_ray.report.results import open_store
    from lotus_ray.trial.unlearn import unlearn
    from lotus_ray.unlearning.contract import Batch, Phase, SampleSet, Workers
    from lotus_ray.unlearning.method import Method
    from lotus_ray.unlearning.problem import Problem

__all__ = [
    "Batch",
    "Images",
    "Item",
    "LotusRayError",
    "Method",
    "Outputs",
    "Phase",
    "Problem",
    "SampleSet",
    "Source",
    "UndefinedMetric",
    "Workers",
    "__version__",
    "evaluate",
    "index_of",
    "metric",
    "model",
    "open_store",
    "run",
    "unlearn",
]

# Imported when they are asked for: `import lotus_ray` imports neither torch nor Ray.
_HOMES = {
    "Batch": "unlearning.contract",
    "Images": "data.sources.images",
    "Item": "data.sources.images",
    "LotusRayError": "base.errors",
    "Method": "unlearning.method",
    "Outputs": "metrics.outputs",
    "Phase": "unlearning.contract",
    "Problem": "unlearning.problem",
    "SampleSet": "unlearning.contract",
    "Source": "data.sources.images",
    "UndefinedMetric": "base.errors",
    "Workers": "unlearning.contract",
    "evaluate": "grid.run_job",
    "index_of": "data.sources.images",
    "metric": "metrics.own",
    "model": "models.own",
    "open_store": "report.results",
    "run": "grid.run_job",
    "unlearn": "trial.unlearn",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lotus_ray' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lotus_ray.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
