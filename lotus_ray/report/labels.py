"""What each row is called in a report: its method, with the settings that tell variants apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lotus_ray.store.row import Row

_OF_ONE_SEED = ("original", "roles")  # differ from seed to seed, so they tell variants only within
_INNER = "method.inner.name"
_NOT_WORTH_A_WORD = ("null", "false")  # LoTUS beside LoTUS(class_unlearning=true)


def labels_of(shown: Iterable[Row], rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the label of each row, with the settings that differ between variants of a method."""
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
            told = [name for name in varying if _is_worth_a_word(name, spec, specs.values())]
            text = ", ".join(f"{_short(name)}={spec.get(name, '-')}" for name in told)
            labels[cell_id] = f"{method}({text})" if text else method
    return labels


def _settings(row: Row, rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the settings of a cell and, prefixed, of the original that it starts from."""
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


def _is_worth_a_word(
    name: str, spec: Mapping[str, str], specs: Collection[Mapping[str, str]]
) -> bool:
    """Return whether to tell a setting: not one that is off, or is in other cells alone."""
    if name in spec:
        return spec[name] not in _NOT_WORTH_A_WORD
    return any(other.get(name) in _NOT_WORTH_A_WORD for other in specs)


def _follows_from_inner(name: str, specs: Collection[Mapping[str, str]]) -> bool:
    """Return whether a setting of an inner method differs only where the inner method does."""
    if name == _INNER or not name.startswith("method.inner."):
        return False
    pairs = {(spec.get(_INNER), spec.get(name)) for spec in specs}
    return len(pairs) == len({inner for inner, _ in pairs})


def _seeds_collide(
    members: Iterable[Row], specs: Mapping[str, Mapping[str, str]], varying: Iterable[str]
) -> bool:
    """Return whether two rows of one seed differ in nothing of what varies."""
    keys = [(row.seed, *(specs[row.cell_id].get(name) for name in varying)) for row in members]
    return len(set(keys)) < len(keys)


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the settings of a cell that are not its seed or what follows from it."""
    flat: dict[str, str] = {}
    for name, value in spec.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix or name not in ("seed", "weights"):
            text = json.dumps(value).strip('"')
            flat[f"{prefix}{name}"] = text[:6] if name == "roles" else text
    return flat


def _short(name: str) -> str:
    return "inner" if name == _INNER else name.removeprefix("method.")
