"""What is to be said below a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Group
from lotus_ray.report.statistics import (
    hardware,
    noise_floor,
    rank_stability,
    ranked,
    shared_gpus,
    unranked,
)

_DEFINING = ("rf_jsd", "jsd", "avg_gap")  # whose ranking is worth a word


def notes(group: Group, metrics: Sequence[str] = tuple(METRICS)) -> list[str]:
    """Return failures, why values are missing, how marks are made, and what is not comparable.

    Args:
        group: the table.
        metrics: the columns that it shows.
    """
    return [
        *_failures(group),
        *_undefined(group, metrics),
        *_older(group),
        *_golds(group),
        *_firmness(group, metrics),
        *_unranked(group, metrics),
        *_stability(group, metrics),
        *_unlike_hardware(group),
    ]


def _failures(group: Group) -> list[str]:
    return [
        f"{entry.method}, seed {seed}: {why}"
        for entry in group.entries
        for seed, why in sorted(entry.failures.items())
    ]


def _undefined(group: Group, metrics: Sequence[str]) -> list[str]:
    """Return each reason once, with its metrics; and its seeds where others are defined."""
    reasons: dict[str, dict[str, None]] = {}
    seeds: dict[str, set[int]] = {}
    defined: dict[str, set[int]] = {}
    for entry in group.entries:
        for metric, found in entry.undefined.items():
            for seed, why in found.items():
                if metric in metrics:
                    reasons.setdefault(why, {})[metric] = None
                    seeds.setdefault(why, set()).add(seed)
                    defined.setdefault(why, set()).update(entry.values.get(metric, {}))
    return [
        f"no {_headings(names)}{_of_seeds(seeds[why]) if defined[why] else ''}: {why}"
        for why, names in reasons.items()
    ]


def _of_seeds(seeds: Iterable[int]) -> str:
    return f" of seed {', '.join(map(str, sorted(seeds)))}"


def _older(group: Group) -> list[str]:
    count = sum(len(entry.older) for entry in group.entries)
    return [f"cells of earlier metrics that are not shown: {count}"] if count else []


def _golds(group: Group) -> list[str]:
    golds = [entry.method for entry in group.entries if entry.is_gold]
    if len(golds) < 2:
        return []
    return [f"there is no one gold standard that all are close to or not: {', '.join(golds)}"]


def _firmness(group: Group, metrics: Sequence[str]) -> list[str]:
    floors = {name: noise_floor(group, name) for name in metrics}
    told = [
        f"{METRICS[name].heading} {METRICS[name].show(floor)}"
        for name, floor in floors.items()
        if floor is not None
    ]
    said = [f"noise floor, between two gold standards: {', '.join(told)}"] if told else []
    compared = [found for name in metrics if len(found := ranked(group, name)) > 1]
    if not compared:
        return said
    if max(len(seeds) for found in compared for _, seeds in found) < 2:
        return [*said, "one seed: no method is marked as best"]
    beyond = "exceeds the noise floor and " if told else ""
    what = f"difference {beyond}has a 95 % interval over seeds without 0"
    return [*said, f"best and second best are marked where the {what}"]


def _unranked(group: Group, metrics: Sequence[str]) -> list[str]:
    found = {method: None for name in metrics for method in unranked(group, name)}
    return [f"not ranked, for want of a seed: {', '.join(found)}"] if found else []


def _stability(group: Group, metrics: Sequence[str]) -> list[str]:
    found = {name: rank_stability(group, name) for name in _DEFINING if name in metrics}
    told = [f"{METRICS[name].heading} {s.tau:.2f}" for name, s in found.items() if s is not None]
    return [f"agreement of seeds on the ranking, Kendall's τ: {', '.join(told)}"] if told else []


def _unlike_hardware(group: Group) -> list[str]:
    found = hardware(group, rivals_only=True)
    told = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in found.items())
    if len(found) > 1:
        return [f"times are of unlike hardware, and not ranked: {told}"]
    if shared_gpus(group):
        return [f"times are of GPUs that trials shared, and not ranked: {told}"]
    return []


def _headings(names: Iterable[str]) -> str:
    return ", ".join(METRICS[name].heading for name in names)
