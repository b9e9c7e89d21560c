"""Statistics of a table: intervals, noise floor, best methods, stability of the ranking."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group, Interval, workers_of
from lotus_ray.report.resolution import idle, resolution
from lotus_ray.store.row import Row

_CONFIDENCE = 0.95
LEAST_SEEDS = 3  # two that agree by chance have an interval without width
TIMES = ("time_min", "unlearn_seconds", "unlearn_device_seconds")


@dataclass(frozen=True)
class Stability:
    """How much the ranking of methods depends on the seed.

    `tau` is the mean of Kendall's τ-b over pairs of seeds: 1 if all seeds give the same ranking, 0
    by chance. `ranks` holds the rank of each method by seed; 1 is best, ties share their mean.
    """

    tau: float
    ranks: dict[str, dict[int, float]]


def interval(values: Collection[float]) -> Interval | None:
    """Return the 95 % t interval of the mean of `values`, or None if there are fewer than two.

    The interval is mean ± t_{0.975, n−1} · s / √n.

    Args:
        values: one per seed, in any unit.

    Source: Student 1908. Deviation: none.
    """
    if len(values) < 2:
        return None
    t = float(stdtrit(len(values) - 1, (1 + _CONFIDENCE) / 2))
    mean = statistics.fmean(values)
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def costs(entry: Entry, metric: str, gold: Entry | None) -> dict[int, float]:
    """Return a cost by seed, which is better if smaller: a metric's value or its gap to gold.

    Empty if no value of the metric is better than another, or if the gold standard is missing.

    Args:
        entry: the method.
        metric: a key of METRICS.
        gold: the gold standard of the table.
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
    """Return the mean difference between two gold standards of the same seed in a metric.

    None if there is no second gold standard, and for times.
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
    """Return 1 for the best and 2 for the second best method, by its name in the table.

    A method is marked only if the difference to the next one is clear, and the better one is marked
    too. A difference is clear if there are LEAST_SEEDS, it exceeds `noise_floor` and `resolution`
    (if they are known), and its 95 % t interval over seeds excludes 0.
    """
    floor = max(noise_floor(group, metric) or 0.0, resolution(group, metric) or 0.0)
    result: dict[str, int] = {}
    pairs = itertools.pairwise(ranked(group, metric)[:3])
    for index, ((method, ahead), (_, behind)) in enumerate(pairs, start=1):
        if not _is_clear(ahead, behind, floor):
            break
        result[method] = index
    return result


def rank_stability(group: Group, metric: str) -> Stability | None:
    """Return the stability of the ranking; None if fewer than two methods or seeds are ranked."""
    from scipy.stats import kendalltau, rankdata

    methods = dict(ranked(group, metric))
    seeds = sorted({seed for result in methods.values() for seed in result})
    if len(methods) < 2 or len(seeds) < 2:
        return None
    by_seed = {seed: rankdata([result[seed] for result in methods.values()]) for seed in seeds}
    taus = [
        float(kendalltau(a, b).statistic) for a, b in itertools.combinations(by_seed.values(), 2)
    ]
    defined = [tau for tau in taus if not math.isnan(tau)]
    if not defined:
        return None
    ranks = {
        method: {seed: float(by_seed[seed][index]) for seed in seeds}
        for index, method in enumerate(methods)
    }
    return Stability(statistics.fmean(defined), ranks)


def hardware(group: Group, *, rivals_only: bool = False) -> dict[str, list[str]]:
    """Return the methods with good cells, by hardware; not what was made elsewhere.

    Args:
        group: the table.
        rivals_only: leave out original and gold.
    """
    result: dict[str, list[str]] = {}
    for entry in group.rivals if rivals_only else group.entries:
        for row in entry.rows.values():
            methods = result.setdefault(_hardware(row), []) if _is_timed(row) else []
            if entry.method not in methods:
                methods.append(entry.method)
    return result


def shared_gpus(group: Group) -> bool:
    """Return True if a rival ran on a fraction of a GPU, where other trials may have slowed it."""
    return any(row.resources.shares_gpu for entry in group.rivals for row in entry.rows.values())


def disturbed(group: Group) -> dict[str, list[int]]:
    """Return the rivals beside which images were decoded while they were timed, with the seeds."""
    result = {
        entry.method: [seed for seed, row in entry.rows.items() if row.resources.is_disturbed]
        for entry in group.rivals
    }
    return {method: sorted(seeds) for method, seeds in result.items() if seeds}


def ranked(group: Group, metric: str) -> list[tuple[str, dict[int, float]]]:
    """Return the ranked unlearning methods with their costs by seed, the best first.

    Methods without a seed that others have are left out, and those that changed nothing: see
    `idle`. Times are not ranked if the hardware differs or trials shared a GPU, nor those of a
    method beside which images were decoded.
    """
    if metric in TIMES and (len(hardware(group, rivals_only=True)) > 1 or shared_gpus(group)):
        return []
    incomplete = {*unranked(group, metric), *(disturbed(group) if metric in TIMES else ())}
    incomplete |= set(idle(group))
    result = {entry.method: costs(entry, metric, group.gold) for entry in group.rivals}
    complete = [
        (method, by_seed)
        for method, by_seed in result.items()
        if by_seed and method not in incomplete
    ]
    return sorted(complete, key=lambda item: statistics.fmean(item[1].values()))


def unranked(group: Group, metric: str) -> list[str]:
    """Return the unlearning methods without a seed of a metric that others have."""
    result = {entry.method: costs(entry, metric, group.gold) for entry in group.rivals}
    seeds = {seed for by_seed in result.values() for seed in by_seed}
    return [method for method, by_seed in result.items() if set(by_seed) < seeds]


def _is_clear(ahead: Mapping[int, float], behind: Mapping[int, float], floor: float) -> bool:
    differences = [behind[seed] - cost for seed, cost in ahead.items()]
    if len(differences) < LEAST_SEEDS:
        return False
    low, _ = interval(differences) or (0.0, 0.0)
    return low > 0 and statistics.fmean(differences) > floor * (1 + 1e-9)  # one image of 143 is one


def _is_timed(row: Row) -> bool:
    return row.is_ok and row.provenance is None


def _hardware(row: Row) -> str:
    resources = row.resources
    devices = f"{resources.gpus_per_worker:g}" if resources.shares_gpu else workers_of(row)
    name = f"{devices} × {resources.device or 'unknown device'}"
    threads = resources.threads_per_worker
    on_cpu = resources.device_type == "cpu" and threads
    return f"{name}, {threads} threads" if on_cpu else name
