"""What is to be said below a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Group
from lotus_ray.report.statistics import TIMES, hardware, noise_floor, rank_stability

_DEFINING = ("rf_jsd", "jsd", "avg_gap")  # whose ranking is worth a word


def notes(group: Group, metrics: Sequence[str] = tuple(METRICS)) -> list[str]:
    """Return failures, why values are undefined, the noise floor and what runs on unlike hardware.

    Args:
        group: the table.
        metrics: the columns that it shows.
    """
    return [
        *_failures(group),
        *_undefined(group, metrics),
        *_firmness(group, metrics),
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
    reasons: dict[str, dict[str, None]] = {}
    for entry in group.entries:
        for metric, why in entry.undefined.items():
            if metric in metrics:
                reasons.setdefault(why, {})[metric] = None
    return [f"no {_headings(names)}: {why}" for why, names in reasons.items()]


def _firmness(group: Group, metrics: Sequence[str]) -> list[str]:
    if len(group.rivals) < 2:
        return []
    floors = {name: noise_floor(group, name) for name in metrics}
    shown = [f"{METRICS[name].heading} {METRICS[name].show(v)}" for name, v in floors.items() if v]
    told = [f"noise floor, between two gold standards: {', '.join(shown)}"] if shown else []
    by_seeds = [METRICS[name].heading for name in metrics if name in TIMES] if shown else []
    if shown and not by_seeds:
        return told
    of = f" of {', '.join(by_seeds)}" if by_seeds else ""
    if max(len(entry.rows) for entry in group.rivals) >= 2:
        how = "are marked where the 95 % interval over seeds excludes 0"
        return [*told, f"best and second best{of} {how}"]
    return told or ["one seed and no second gold standard: no method is marked as best"]


def _stability(group: Group, metrics: Sequence[str]) -> list[str]:
    found = {name: rank_stability(group, name) for name in _DEFINING if name in metrics}
    told = [f"{METRICS[name].heading} {s.tau:.2f}" for name, s in found.items() if s is not None]
    return [f"agreement of seeds on the ranking, Kendall's τ: {', '.join(told)}"] if told else []


def _unlike_hardware(group: Group) -> list[str]:
    found = hardware(group, rivals_only=True)
    if len(found) < 2:
        return []
    told = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in found.items())
    return [f"times are of unlike hardware, and not ranked: {told}"]


def _headings(names: Iterable[str]) -> str:
    return ", ".join(METRICS[name].heading for name in names)
