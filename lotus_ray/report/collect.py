"""Rows of a store -> one entry for each benchmark × model × setting × method, with every seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lotus_ray.metrics import jsd, jsd_compat
from lotus_ray.metrics.outputs import TENSORS, forget_probs
from lotus_ray.store import OK, Row, Store

METHOD_ORDER = (
    "Original",
    "Gold Std",
    "Finetuning",
    "NegGrad+",
    "Rnd Labeling",
    "Bad Teacher",
    "SCRUB",
    "SSD",
    "UNSIR",
    "SalUn",
    "LoTUS",
)
_OF_ONE_SEED = ("original", "roles")  # differ from seed to seed, so they tell variants only within
_INNER = "method.inner.name"
_NOT_WORTH_A_WORD = ("null", "false")  # LoTUS beside LoTUS(class_unlearning=true)
_NO_GOLD = "there is no gold standard of this seed"


@dataclass(frozen=True)
class Metric:
    """One column of a report: what it is, and how it is read from a cell's figures."""

    about: str
    figure: str  # its name in rows
    factor: float = 1.0

    def read(self, figures: Mapping[str, Any]) -> float | None:
        """Return the value of a cell, or None."""
        value = figures.get(self.figure)
        return None if value is None else value * self.factor


# The names are those of the published tables for what these hold too.
METRICS: dict[str, Metric] = {
    "rf_jsd": Metric("divergence from the original on unseen images", "rf_jsd"),
    "jsd": Metric("divergence from the gold standard on the forget set", "jsd"),
    "avg_gap": Metric("mean gap to gold of MIA, forget, retain, test", "avg_gap"),
    "forget_acc": Metric("accuracy on the forget set", "forget_accuracy"),
    "retain_acc": Metric("accuracy on the retain set", "retain_accuracy"),
    "unseen_acc": Metric("accuracy on the unseen set", "unseen_accuracy"),
    "test_acc": Metric("accuracy on the test set", "test_accuracy"),
    "mia_acc": Metric("share of the forget set called member", "mia_accuracy"),
    "rf_jsd_x1e4": Metric("RF-JSD as the published code has it", "rf_jsd_compat", 1e4),
    "jsd_x1e4": Metric("JSD as the published code has it", "jsd_compat", 1e4),
    "time_min": Metric("minutes of unlearning", "unlearn_seconds", 1 / 60),
    "prepare_seconds": Metric("seconds before unlearning", "prepare_seconds"),
    "unlearn_seconds": Metric("seconds of unlearning", "unlearn_seconds"),
    "evaluate_seconds": Metric("seconds of evaluation", "evaluate_seconds"),
}


@dataclass(frozen=True)
class Entry:
    """One line of a table. `values[metric]` holds a value for each seed that has one."""

    benchmark: str
    model: str
    setting: str
    method: str
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds, or None."""
        values = list(self.values.get(metric, {}).values())
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Return the sample standard deviation over seeds, or None where fewer than two."""
        values = list(self.values.get(metric, {}).values())
        return statistics.stdev(values) if len(values) > 1 else None

    def n(self, metric: str) -> int:
        """Return the number of seeds that have a value."""
        return len(self.values.get(metric, {}))


def collect(store: Store, shown_as: Mapping[str, Mapping[str, Any]] | None = None) -> list[Entry]:
    """Read a store and group its rows.

    Args:
        store: the metric store.
        shown_as: benchmark, model and setting of the cells to show, by cell id; None shows all
            cells by what their rows say. Gold standards are found anyway.

    Returns:
        Entries in the order of benchmarks, models, settings and the published table's methods.
        Variants of one method are told apart by what differs: LoTUS(alpha=8).
    """
    rows = store.rows()
    shown = [
        row | dict(shown_as[cell_id] if shown_as else {})
        for cell_id, row in rows.items()
        if shown_as is None or cell_id in shown_as
    ]
    golds = {_gold_key(row): row for row in rows.values() if _is_good_gold(row)}
    labels = _labels(shown, rows)
    entries: dict[tuple[str, ...], Entry] = {}
    for row in shown:
        key = (row["benchmark"], row["model"], row["setting"], labels[row["cell_id"]])
        entry = entries.setdefault(key, Entry(*key))
        if row["status"] == OK:
            _add(entry, row, golds.get(_reference_key(row, rows)), store)
        else:
            error = row.get("error", {})
            first = str(error.get("message", "")).splitlines() or [""]
            entry.failures[row["seed"]] = f"{row['status']}: {first[0]}"
    return sorted(entries.values(), key=_place)


def _add(entry: Entry, row: Row, gold: Row | None, store: Store) -> None:
    values: dict[str, Any] = {**row["metrics"], **row["timing"]}
    if gold is not None:
        values |= _against_gold(row, gold, store)
    reasons = dict(row["undefined"])
    if gold is None:
        reasons |= {"jsd": _NO_GOLD, "jsd_compat": _NO_GOLD, "avg_gap": _NO_GOLD}
    elif "avg_gap" not in values:
        reasons["avg_gap"] = "an accuracy that it averages over is undefined"
    for name, metric in METRICS.items():
        value = metric.read(values)
        if value is None and metric.figure in reasons:
            entry.undefined[name] = reasons[metric.figure]
        if value is not None:
            entry.values.setdefault(name, {})[row["seed"]] = value


def _against_gold(row: Row, gold: Row, store: Store) -> dict[str, float]:
    """Compare a cell with the gold standard of its lane, from what the store keeps of both.

    This is not part of the row, whose content depends on its own cell alone.
    """
    ours = forget_probs(store.artifact(row, TENSORS))
    golds = forget_probs(store.artifact(gold, TENSORS))
    found = {"jsd": jsd(ours, golds), "jsd_compat": jsd_compat(ours, golds)}
    names = ("mia_accuracy", "forget_accuracy", "retain_accuracy", "test_accuracy")
    gaps = [
        abs(row["metrics"][name] - gold["metrics"][name])
        for name in names
        if row["metrics"][name] is not None and gold["metrics"][name] is not None
    ]
    return found | ({"avg_gap": sum(gaps) / len(gaps)} if len(gaps) == len(names) else {})


def _is_good_gold(row: Row) -> bool:
    method = row["spec"]["method"]
    return bool(
        row["status"] == OK and method["name"] == "gold" and method.get("training_seed") is None
    )


def _gold_key(row: Row) -> str:
    """Return what an original and the gold standard of its lane have in common."""
    spec = dict(row["spec"])
    method = spec.pop("method")
    recipe = {
        key: value
        for key, value in method.items()
        if key not in ("name", "version", "training_seed")
    }
    return json.dumps([spec, recipe], sort_keys=True)


def _reference_key(row: Row, rows: Mapping[str, Row]) -> str:
    original = rows.get(row["spec"].get("weights", row["cell_id"]))
    return _gold_key(original) if original is not None else ""


def _labels(shown: Iterable[Row], rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the label of each row, with the settings that differ between variants of a method."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in shown:
        key = (row["benchmark"], row["model"], row["setting"], row["method"])
        groups.setdefault(key, []).append(row)
    labels = {}
    for (*_, method), members in groups.items():
        specs = {row["cell_id"]: _settings(row, rows) for row in members}
        names = {name for spec in specs.values() for name in spec}
        varying = [name for name in sorted(names) if _varies(name, specs.values())]
        varying = [name for name in varying if not _follows_from_inner(name, specs.values())]
        for name in _OF_ONE_SEED:
            if _seeds_collide(members, specs, varying):
                varying.append(name)
        for cell_id, spec in specs.items():
            told = [name for name in varying if spec.get(name) not in _NOT_WORTH_A_WORD]
            text = ", ".join(f"{_short(name)}={spec.get(name, '-')}" for name in told)
            labels[cell_id] = f"{method}({text})" if text else method
    return labels


def _settings(row: Row, rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the settings of a cell and, prefixed, of the original that it starts from."""
    settings = _flat(row["spec"])
    weights = row["spec"].get("weights", "")
    original = rows.get(weights)
    if weights and original is None:
        settings["original"] = weights[:6]
    if original is not None:
        method = _flat({"method": original["spec"]["method"]})
        settings |= {f"original.{_short(name)}": value for name, value in method.items()}
    return settings


def _varies(name: str, specs: Collection[Mapping[str, str]]) -> bool:
    return name not in _OF_ONE_SEED and len({spec.get(name) for spec in specs}) > 1


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
    keys = [
        (row["seed"], *(specs[row["cell_id"]].get(name) for name in varying)) for row in members
    ]
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


def _place(entry: Entry) -> tuple[Any, ...]:
    base = entry.method.split("(")[0]
    order = METHOD_ORDER.index(base) if base in METHOD_ORDER else len(METHOD_ORDER)
    return (entry.benchmark, entry.model, entry.setting, order, entry.method)
