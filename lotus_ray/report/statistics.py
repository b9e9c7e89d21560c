"""What can be said of a table: intervals, the noise floor, which method is best, how firmly."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group, Interval, workers_of
from lotus_ray.store.row import Row

_CONFIDENCE = 0.95
TIMES = ("time_min", "unlearn_seconds", "unlearn_device_seconds")


@dataclass(frozen=True)
class Stability:
    """How much the ranking of methods depends on the seed.

    `tau` is the mean of Kendall's τ-b over pairs of seeds: 1 where all rank alike, 0 by chance.
    `ranks` holds the rank of each method, by seed; 1 is best, ties share their mean.
    """

    tau: float
    ranks: dict[str, dict[int, float]]


def interval(values: Collection[float]) -> Interval | None:
    """Return the 95 % t interval of the mean of `values`, or None where fewer than two.

    mean ± t_{0.975, n−1} · s / √n.

    Args:
        values: one a seed, in any unit.

    Source: Student 1908. Deviation: none.
    """
    if len(values) < 2:
        return None
    t = float(stdtrit(len(values) - 1, (1 + _CONFIDENCE) / 2))
    mean = statistics.fmean(values)
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def costs(entry: Entry, metric: str, gold: Entry | None) -> dict[int, float]:
    """Return by seed what is to be small of a metric: its value, or its distance from gold.

    Empty where the metric has no better and worse, or where that takes a gold standard of the same
    seed and there is none.
    """
    better, values = METRICS[metric].better, entry.values.get(metric, {})
    if better == "low":
        return dict(values)
    if better == "high":
        return {seed: -value for seed, value in values.items()}
    if better == "near gold" and gold is not None:
        golds = gold.values.get(metric, {})
        return {seed: abs(v - golds[seed]) for seed, v in values.items() if seed in golds}
    return {}


def noise_floor(group: Group, metric: str) -> float | None:
    """Return how far two honest gold standards of one seed differ in a metric, on average.

    None where there is no second gold standard, and of times, which say nothing of it.
    """
    gold = group.gold
    if gold is None or metric in TIMES:
        return None
    first = costs(gold, metric, gold)
    result = [
        abs(value - first[seed])
        for second in group.second_golds
        for seed, value in costs(second, metric, gold).items()
        if seed in first
    ]
    return statistics.fmean(result) if result else None


def marks(group: Group, metric: str) -> dict[str, int]:
    """Return the best method as 1 and the second best as 2, by what the table calls them.

    The best one only where the difference to the next one is clear, the second best only where
    both its differences are. Clear is what exceeds `noise_floor`, where there is one, and whose
    95 % t interval over seeds excludes 0.
    """
    floor = noise_floor(group, metric)
    result: dict[str, int] = {}
    pairs = itertools.pairwise(ranked(group, metric)[:3])
    for index, ((method, ahead), (_, behind)) in enumerate(pairs, start=1):
        if not _is_clear(ahead, behind, floor):
            break
        result[method] = index
    return result


def rank_stability(group: Group, metric: str) -> Stability | None:
    """Return how firmly the methods are ranked; None where fewer than two of them or of seeds."""
    from scipy.stats import kendalltau, rankdata

    methods = dict(ranked(group, metric))
    seeds = sorted({seed for result in methods.values() for seed in result})
    if len(methods) < 2 or len(seeds) < 2:
        return None
    by_seed = {seed: rankdata([result[seed] for result in methods.values()]) for seed in seeds}
    taus = [
        float(kendalltau(a, b).statistic) for a, b in itertools.combinations(by_seed.values(), 2)
    ]
    known = [tau for tau in taus if not math.isnan(tau)]
    if not known:
        return None
    ranks = {
        method: {seed: float(by_seed[seed][index]) for seed in seeds}
        for index, method in enumerate(methods)
    }
    return Stability(statistics.fmean(known), ranks)


def hardware(group: Group, *, rivals_only: bool = False) -> dict[str, list[str]]:
    """Return what the good cells of a table ran on, and which methods ran there."""
    result: dict[str, list[str]] = {}
    for entry in group.rivals if rivals_only else group.entries:
        for row in entry.rows.values():
            methods = result.setdefault(_hardware(row), []) if row.is_ok else []
            if entry.method not in methods:
                methods.append(entry.method)
    return result


def shared_gpus(group: Group) -> bool:
    """Return whether a rival ran on a part of a GPU, where others may have slowed it."""
    return any(row.resources.shares_gpu for entry in group.rivals for row in entry.rows.values())


def ranked(group: Group, metric: str) -> list[tuple[str, dict[int, float]]]:
    """Return the unlearning methods that are ranked with their costs by seed, the best first.

    Left out are those that lack a seed that others have; no time of unlike hardware is ranked, nor
    one of a GPU that trials shared.
    """
    if metric in TIMES and (len(hardware(group, rivals_only=True)) > 1 or shared_gpus(group)):
        return []
    lacking = unranked(group, metric)
    result = {entry.method: costs(entry, metric, group.gold) for entry in group.rivals}
    complete = [
        (method, known) for method, known in result.items() if known and method not in lacking
    ]
    return sorted(complete, key=lambda item: statistics.fmean(item[1].values()))


def unranked(group: Group, metric: str) -> list[str]:
    """Return the unlearning methods that lack a seed of a metric that others have."""
    result = {entry.method: costs(entry, metric, group.gold) for entry in group.rivals}
    seeds = {seed for known in result.values() for seed in known}
    return [method for method, known in result.items() if set(known) < seeds]


def _is_clear(ahead: Mapping[int, float], behind: Mapping[int, float], floor: float | None) -> bool:
    differences = [behind[seed] - cost for seed, cost in ahead.items()]
    result = interval(differences)
    return result is not None and result[0] > 0 and statistics.fmean(differences) > (floor or 0)


def _hardware(row: Row) -> str:
    resources = row.resources
    devices = f"{resources.gpus_per_worker:g}" if resources.shares_gpu else workers_of(row)
    name = f"{devices} × {resources.device or 'unknown device'}"
    threads = resources.threads_per_worker
    on_cpu = resources.device_type == "cpu" and threads
    return f"{name}, {threads} threads" if on_cpu else name
