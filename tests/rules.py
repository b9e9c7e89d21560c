"""Allow-lists for settings that no schema of Ray's looks at: each key that we use, and its kind.

A rule is a type, a set of values, a pattern, a function that says what is wrong, a list of one rule
for every item, or a dict of rules by key. Keys that have no rule are refused; `must` names keys
that cannot be left out; `ANY` stands for any other key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

ANY = object()


class Must(dict[Any, Any]):
    """A dict of rules whose keys all have to be there."""


def wrong(value: Any, rule: Any, path: str = "") -> Iterator[str]:
    """Yield what of a value breaks a rule, and where."""
    if isinstance(rule, dict):
        yield from _wrong_keys(value, rule, path)
    elif isinstance(rule, list):
        if not isinstance(value, list) or not value:
            yield f"{path}: not a list of anything"
        else:
            for place, item in enumerate(value):
                yield from wrong(item, rule[0], f"{path}[{place}]")
    elif isinstance(rule, re.Pattern):
        if not isinstance(value, str) or not rule.fullmatch(value):
            yield f"{path}: {value!r} is not of the form {rule.pattern}"
    elif isinstance(rule, set):
        if not any(value == each and type(value) is type(each) for each in rule):
            yield f"{path}: {value!r} is none of {sorted(map(str, rule))}"
    elif type(value) is not rule:
        yield f"{path}: {value!r} is no {rule.__name__}"


def _wrong_keys(value: Any, rule: Mapping[Any, Any], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no mapping"
        return
    for key, item in value.items():
        if key not in rule and ANY not in rule:
            yield f"{path}.{key}: unknown key"
        else:
            yield from wrong(item, rule.get(key, rule.get(ANY)), f"{path}.{key}")
    for key in rule if isinstance(rule, Must) else ():
        if key not in value:
            yield f"{path}.{key}: missing"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from leaves(item, f"{path}[{place}]")
    else:
        yield path, value
