"""Names of rows in a report: the method, and the settings in which its variants differ."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lotus_ray.store.row import Row

_SHA256 = "method.sha256"  # of weights or predictions made elsewhere
# These differ between seeds: they separate variants of one seed.
_OF_ONE_SEED = ("original", "roles", _SHA256)
_INNER = "method.inner.name"
_HIDDEN = ("null", "false")  # LoTUS beside LoTUS(class_unlearning=true)


def labels_of(shown: Iterable[Row], rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the label of each row, with the settings that differ between variants of a method.

    Args:
        shown: rows of the report.
        rows: all rows of the store by cell id, to find originals.

    Returns:
        Labels by cell id.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in shown:
        key = (row.benchmark, row.model, row.setting, row.method)
        groups.setdefault(key, []).append(row)
    labels = {}
    for (*_, method), members in groups.items():
        specs = {row.cell_id: _settings(row, rows) for row in members}
        names = {name for spec in specs.values() for name in spec}
        varying = [name for name in sorted(names) if _varies(name, specs.values())]
        varying = [name for name in varying if not _follows_from_inner(name, specs.values())]
        for name in _OF_ONE_SEED:
            if _seeds_collide(members, specs, varying):
                varying.append(name)
        for cell_id, spec in specs.items():
            named = [name for name in varying if _is_worth_naming(name, spec, specs.values())]
            text = ", ".join(f"{_short(name)}={spec.get(name, '-')}" for name in named)
            labels[cell_id] = f"{method}({text})" if text else method
    return labels


def _settings(row: Row, rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the settings of a cell and, with a prefix, of its original."""
    settings = _flat(row.spec)
    weights = row.spec.get("weights", "")
    original = rows.get(weights)
    if weights and original is None:
        settings["original"] = weights[:6]
    if original is not None:
        method = _flat({"method": original.spec["method"]})
        settings |= {f"original.{_short(name)}": value for name, value in method.items()}
    return settings


def _varies(name: str, specs: Collection[Mapping[str, str]]) -> bool:
    return name not in _OF_ONE_SEED and len({spec.get(name) for spec in specs}) > 1


def _is_worth_naming(
    name: str, spec: Mapping[str, str], specs: Collection[Mapping[str, str]]
) -> bool:
    """Return whether to tell a setting: not one that is off, or is in other cells alone."""
    if name in spec:
        return spec[name] not in _HIDDEN
    return any(other.get(name) in _HIDDEN for other in specs)


def _follows_from_inner(name: str, specs: Collection[Mapping[str, str]]) -> bool:
    """Return True if a setting of an inner method differs only when the inner method does."""
    if name == _INNER or not name.startswith("method.inner."):
        return False
    pairs = {(spec.get(_INNER), spec.get(name)) for spec in specs}
    return len(pairs) == len({inner for inner, _ in pairs})


def _seeds_collide(
    members: Iterable[Row], specs: Mapping[str, Mapping[str, str]], varying: Iterable[str]
) -> bool:
    """Return True if two rows of one seed are equal in all settings that vary."""
    keys = [(row.seed, *(specs[row.cell_id].get(name) for name in varying)) for row in members]
    return len(set(keys)) < len(keys)


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the settings of a cell by dotted name, without seed and original."""
    flat: dict[str, str] = {}
    for name, value in spec.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix or name not in ("seed", "weights"):
            if name == "own_metrics":
                value = "+".join(f"{own['name']}@{own['code'][:6]}" for own in value)
            text = json.dumps(value).strip('"')
            is_long = name in ("roles", "code") or f"{prefix}{name}" == _SHA256
            flat[f"{prefix}{name}"] = text[:6] if is_long else text
    return flat


def _short(name: str) -> str:
    return "inner" if name == _INNER else name.removeprefix("method.")
