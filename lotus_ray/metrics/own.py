"""Metrics of one's own: a pure function of the outputs of a model, and how reports show it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, UndefinedMetric, nearest
from lotus_ray.base.plugins import PluginError
from lotus_ray.base.roles import ROLES
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.metrics.summary import Summary

# Names of built-in metrics, in rows and in reports.
TAKEN = frozenset(
    [
        *("avg_gap", "distance", "jsd", "jsd_compat", "jsd_x1e4", "mia_acc", "mia_accuracy"),
        *("outputs_changed", "relative_distance", "rf_jsd", "rf_jsd_classes", "rf_jsd_compat"),
        *("rf_jsd_x1e4", "time_min", "unlearn_device_seconds", "weights_moved", "zrf"),
        *(f"{role}_{end}" for role in ROLES for end in ("acc", "accuracy")),
        *(f"{stage}_seconds" for stage in ("prepare", "unlearn", "evaluate", "checkpoint")),
        *(
            f"mia_{figure}_{score}"
            for figure in ("auc", "tpr_1pct", "tpr_01pct")
            for score in ("entropy", "loss", "confidence", "margin")
        ),
    ]
)

Function = Callable[[Outputs, Outputs | None], float]


@dataclass(frozen=True)
class OwnMetric:
    """A metric of a plug-in. It is made by `metric`."""

    name: str  # in jobs, rows and reports
    compute: Function  # of the outputs of a model, and of its original
    heading: str  # of its column
    about: str
    better: Literal["low", "high", ""] = ""  # which value a report marks as best
    form: str = ".3f"  # in tables for people
    code: str = ""  # digest of the plug-in's source

    def spec(self) -> dict[str, Any]:
        """Return what identifies it, and how reports show it, as plain values."""
        names = ("name", "code", "heading", "about", "better", "form")
        return {name: getattr(self, name) for name in names}


def find_metric(name: str, where: str = "") -> OwnMetric:
    """Return the metric of a plug-in by its name.

    Raises:
        JobError: no plug-in has it.
        PluginError: the plug-in cannot be imported.
    """
    if name in TAKEN:
        raise JobError(
            f"the metric {name} is built in: every row has it",
            where=where,
            next_command="remove it from the job's metrics",
        )
    plugin = plugins.find("metric", name)
    if plugin is None:
        raise JobError(
            f"unknown metric '{name}'{plugins.looked_at()}",
            where=where,
            nearest=nearest(name, plugins.names("metric")),
            next_command="--import FILE.py, with a function marked @lotus_ray.metric",
        )
    value: OwnMetric = plugin.value
    return value


def add_own(
    summary: Summary, outputs: Outputs, original: Outputs | None, spec: Mapping[str, Any]
) -> None:
    """Add the metrics of plug-ins to those of a row.

    Args:
        summary: gets the values, or why there are none.
        outputs: of the model.
        original: outputs of its original on the same samples.
        spec: of the cell.

    Raises:
        PluginError: a function raises anything but UndefinedMetric. The text says which.
    """
    for description in spec.get("own_metrics", ()):
        name, code = description["name"], description["code"]
        own: OwnMetric = plugins.loaded("metric", name, code).value
        summary.values[name] = None
        try:
            value = float(own.compute(outputs, original))
        except UndefinedMetric as undefined:
            summary.undefined[name] = undefined.what
            continue
        except Exception as error:  # foreign code can raise anything
            lines = [type(error).__name__, *str(error).splitlines()[:1]]
            raise PluginError(f"the metric {name} fails: {': '.join(lines)}") from error
        if math.isfinite(value):
            summary.values[name] = value
        else:
            summary.undefined[name] = f"it returned {value}"


def metric(
    *, heading: str = "", better: Literal["low", "high", ""] = "", form: str = ".3f"
) -> Callable[[Function], OwnMetric]:
    """Make a metric from a function of the outputs of a model and of its original.

    The name of the metric is that of the function, and the first line of its docstring says what it
    is. It returns a number; where there is none, it raises `UndefinedMetric` with the reason.

    Args:
        heading: of its column in reports; default: the name.
        better: which value reports mark as best; default none.
        form: of its numbers in tables, as for `format`.
    """

    def make(function: Function) -> OwnMetric:
        name = function.__name__
        about = (function.__doc__ or "").strip().partition("\n")[0]
        return OwnMetric(name, function, heading or name, about, better, form)

    return make
