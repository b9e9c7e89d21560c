"""What the code of a plug-in defines: methods, models, sources and metrics."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from lotus_ray.base.plugins import Code, Kind, Plugin, PluginError, name_taken
from lotus_ray.data.sources import SOURCES, Source
from lotus_ray.job.method_spec import describe
from lotus_ray.job.plugins.run_code import import_code
from lotus_ray.metrics.own import TAKEN, OwnMetric
from lotus_ray.models.own import own_name
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS, registered_name

RESERVED = ("name", "version", "code", "batch_size")  # keys of a job's entry, not hyper-parameters
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def defined_by(code: Code, module: str) -> list[Plugin]:
    """Import a module of a plug-in, and return what it defines, in the order of names.

    Raises:
        PluginError: it cannot be imported, defines nothing, or defines what cannot be used.
    """
    found = [
        _made(kind, name, value, code, module, attribute)
        for attribute, kind, name, value in _values(import_code(code, module), code)
    ]
    if not found:
        raise PluginError(
            "the plug-in defines no method, model, source or metric",
            where=code.origin,
            nearest="@dataclass(frozen=True) class Mine(lotus_ray.Method): …",
            next_command="see docs/plugins.md",
        )
    return found


def named(kind: Kind, name: str, code: Code, module: str, attribute: str) -> Plugin:
    """Import a module of a plug-in, and return one thing that it defines.

    Args:
        kind: of the plug-in.
        name: in jobs.
        code: of the plug-in.
        module: the module that defines it.
        attribute: its name there, with dots where it is inside of something.

    Raises:
        PluginError: it cannot be imported, or is not there, or cannot be used.
    """
    value: Any = import_code(code, module)
    for each in attribute.split("."):
        if not hasattr(value, each):
            raise PluginError(
                f"the {kind} {name} is not where its package says",
                where=f"{code.origin}: {module}:{attribute}",
                next_command="correct the entry point in its pyproject.toml, and install it again",
            )
        value = getattr(value, each)
    return _made(kind, name, value, code, module, attribute)


def _made(kind: Kind, name: str, value: Any, code: Code, module: str, attribute: str) -> Plugin:
    """Check what a name of a plug-in stands for.

    Raises:
        PluginError: it is of another kind, has a name that is taken, or cannot be used.
    """
    check = {"method": _check_method, "model": _check_model, "source": _check_source}
    check.get(kind, _check_metric)(name, value, code.origin)
    if not _NAME.fullmatch(name):
        raise _wrong(f"'{name}' is no name for a {kind}", code.origin, "my_name")
    if kind == "method":
        value.code = code.digest
    if kind == "metric":
        value = dataclasses.replace(value, code=code.digest)
    return Plugin(kind, name, value, code, module, attribute)


def _values(module: ModuleType, code: Code) -> Iterator[tuple[str, Kind, str, Any]]:
    """Yield what a module defines, or a package imports into its `__init__`.

    Each with its name in the module, kind and name in jobs.
    """
    for own, value in sorted(vars(module).items()):
        if own.startswith("_"):
            continue
        if isinstance(value, type):
            is_own = value.__module__.partition(".")[0] == code.top
            if is_own and issubclass(value, Method) and not inspect.isabstract(value):
                yield own, "method", str(getattr(value, "name", "")), value
        elif isinstance(value, Source):
            if SOURCES.get(value.name) is not value:
                yield own, "source", value.name, value
        elif isinstance(value, OwnMetric):
            yield own, "metric", value.name, value
        elif model := own_name(value):
            yield own, "model", model, value


def _check_method(name: str, value: Any, origin: str) -> None:
    """Raise PluginError if a job could not use this as a method."""
    if not (isinstance(value, type) and issubclass(value, Method)):
        raise _wrong(f"the method '{name}' is no class made from lotus_ray.Method", origin)
    if registered_name(name) in METHODS:  # labels are names too
        raise name_taken("method", name, origin, "lotus-ray itself")
    for attribute in ("name", "label"):
        if not isinstance(getattr(value, attribute, None), str):
            raise _wrong(
                f"the method {value.__name__} has no {attribute}",
                origin,
                f'{attribute}: ClassVar[str] = "my_method"',
            )
    if value.name != name:
        raise _wrong(f"the method {value.name} has another name here: {name}", origin, value.name)
    if value.label.lower() in {each.label.lower() for each in METHODS.values()}:
        raise _wrong(f"the label {value.label} is taken: reports would mix two methods", origin)
    if not value.__dict__.get("__dataclass_params__") or not value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise _wrong(f"the method {name} is no frozen dataclass", origin, "@dataclass(frozen=True)")
    for field in dataclasses.fields(value):
        if field.name in RESERVED:
            raise _wrong(f"{name}: {field.name} is no name for a hyper-parameter", origin)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _wrong(f"{name}: the hyper-parameter {field.name} has no default", origin)
    try:
        json.dumps(describe(value()), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _wrong(f"{name}: its hyper-parameters are no plain values: {error}", origin) from None


def _check_model(name: str, value: Any, origin: str) -> None:
    if not callable(value):
        raise _wrong(
            f"the model '{name}' is no function that returns a network",
            origin,
            "def my_net(num_classes, width=16): …",
        )
    if "num_classes" not in inspect.signature(value).parameters:
        raise _wrong(f"the model '{name}' takes no num_classes", origin, f"def {name}(num_classes)")


def _check_source(name: str, value: Any, origin: str) -> None:
    if not isinstance(value, Source):
        raise _wrong(f"the source '{name}' is no lotus_ray.Source", origin)
    if name in SOURCES:
        raise name_taken("source", name, origin, "lotus-ray itself")
    if value.name != name:
        raise _wrong(f"the source {value.name} has another name here: {name}", origin, value.name)


def _check_metric(name: str, value: Any, origin: str) -> None:
    if not isinstance(value, OwnMetric):
        raise _wrong(f"the metric '{name}' was not made by @lotus_ray.metric", origin)
    if value.better not in ("low", "high", ""):
        raise _wrong(f"the metric '{name}': better is '{value.better}'", origin, "low, high or ''")
    if name in TAKEN:
        raise name_taken("metric", name, origin, "lotus-ray itself")
    if value.name != name:
        raise _wrong(f"the metric {value.name} has another name here: {name}", origin, value.name)


def _wrong(what: str, origin: str, nearest: str = "") -> PluginError:
    return PluginError(what, where=origin, nearest=nearest, next_command="see docs/plugins.md")
