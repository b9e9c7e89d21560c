"""Make a method from its name and `a=c` settings of a command."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pydantic import ValidationError

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, nearest
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.yaml_values import parse
from lotus_ray.unlearning.find_method import find_method, method_names
from lotus_ray.unlearning.method import Method


def method_from(name: str, settings: Sequence[str] = ()) -> Method:
    """Make a method.

    Args:
        name: of a built-in method, or of a plug-in that may be used.
        settings: `a=c`, with c in YAML.

    Raises:
        JobError: there is no such method or hyper-parameter, or a value has a wrong type.
        MethodError: a value is out of range.
        PluginError: the plug-in cannot be imported.
    """
    kind = find_method(name)
    if kind is None:
        raise JobError(
            f"unknown method '{name}'{plugins.looked_at()}",
            nearest=nearest(name, method_names()),
            next_command="lotus-ray list methods, or --import FILE.py for a method of your own",
        )
    valid = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in valid or not text:
            raise JobError(
                f"'{setting}' sets no hyper-parameter of {name}",
                where="--set",
                nearest=nearest(key, valid),
                next_command="lotus-ray list methods",
            )
        values[key] = parse(text, "--set")[0]
    try:
        return build_method({"name": name, "code": kind.code, **values})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise JobError(
            f"{name}: {first['msg']}",
            where=f"--set {'.'.join(map(str, first['loc']))}",
            nearest=f"{key}={getattr(kind(), key)}, the default",
        ) from None
