"""The notes below a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lotus_ray.data.roles.warnings import WHOLE_CLASS
from lotus_ray.report.cautions import cautions
from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Group
from lotus_ray.report.resolution import idle, resolution
from lotus_ray.report.statistics import (
    LEAST_SEEDS,
    disturbed,
    hardware,
    noise_floor,
    rank_stability,
    ranked,
    shared_gpus,
    unranked,
)
from lotus_ray.store.row import Row

_DEFINING = ("rf_jsd", "jsd", "avg_gap")  # metrics whose ranking a note is about


def notes(group: Group, metrics: Sequence[str] = tuple(METRICS)) -> list[str]:
    """Return notes: failures, missing values, rules of the marks, and limits of comparison.

    Args:
        group: the table.
        metrics: its columns.
    """
    return [
        *_failures(group),
        *cautions(group, metrics),
        *_whole_classes(group),
        *_undefined(group, metrics),
        *_elsewhere(group),
        *_unchanged(group),
        *_older(group),
        *_golds(group),
        *_firmness(group, metrics),
        *_unranked(group, metrics),
        *_idle(group),
        *_stability(group, metrics),
        *_unlike_hardware(group),
        *_disturbed(group),
        *_dampened(group),
    ]


def _failures(group: Group) -> list[str]:
    return [
        f"{entry.method}, seed {seed}: {why}"
        for entry in group.entries
        for seed, why in sorted(entry.failures.items())
    ]


def _whole_classes(group: Group) -> list[str]:
    """Explain the accuracy of gold standards where a class is forgotten whole, for each seed."""
    found = {
        note: None
        for entry in group.entries
        for row in entry.rows.values()
        for note in row.data_notes
        if note.startswith(WHOLE_CLASS)
    }
    return list(found)


def _undefined(group: Group, metrics: Sequence[str]) -> list[str]:
    """Return each reason once, with its metrics, and with its seeds if other seeds are defined."""
    reasons: dict[str, dict[str, None]] = {}
    seeds: dict[str, set[int]] = {}
    defined: dict[str, set[int]] = {}
    for entry in group.entries:
        for metric, result in entry.undefined.items():
            for seed, why in result.items():
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


def _elsewhere(group: Group) -> list[str]:
    """Name each row that another tool made, with its file."""
    files = {
        entry.method: ", ".join(
            f"{row.provenance['file']}, SHA-256 {str(row.provenance['sha256'])[:12]}…"
            for _, row in sorted(entry.rows.items())
            if row.provenance
        )
        for entry in group.entries
    }
    text = "; ".join(f"{method} ({about})" for method, about in files.items() if about)
    return [f"made elsewhere: {text}"] if text else []


def _unchanged(group: Group) -> list[str]:
    """Name each row whose outputs are the original's: it changed nothing that counts."""
    return [
        f"{entry.method}{_of_seeds(entry.unchanged)}: its outputs equal the original's"
        for entry in group.entries
        if entry.unchanged
    ]


def _older(group: Group) -> list[str]:
    count = sum(len(entry.older) for entry in group.entries)
    return [f"cells of earlier metrics that are not shown: {count}"] if count else []


def _golds(group: Group) -> list[str]:
    golds = [entry.method for entry in group.entries if entry.is_gold]
    if len(golds) < 2:
        return []
    return [f"more than one gold standard, so closeness to gold is not ranked: {', '.join(golds)}"]


def _firmness(group: Group, metrics: Sequence[str]) -> list[str]:
    """Return the noise floor, and the rule by which best methods are marked."""
    floors = {name: noise_floor(group, name) for name in metrics}
    text = [
        f"{METRICS[name].heading} {METRICS[name].show(floor)}"
        for name, floor in floors.items()
        if floor is not None
    ]
    floor_note = [f"noise floor, between two gold standards: {', '.join(text)}"] if text else []
    compared = [result for name in metrics if len(result := ranked(group, name)) > 1]
    if not compared:
        return floor_note
    seeds = max(len(by_seed) for result in compared for _, by_seed in result)
    if seeds < LEAST_SEEDS:
        few = "one seed" if seeds == 1 else "two seeds"
        return [*floor_note, f"{few}: no method is marked as best"]
    beyond = ["the noise floor"] if text else []
    beyond += ["one image"] if any(resolution(group, name) for name in metrics) else []
    exceeds = f"exceeds {' and '.join(beyond)}, and " if beyond else ""
    what = f"difference {exceeds}has a 95 % interval over seeds without 0"
    return [*floor_note, f"best and second best are marked if the {what}"]


def _unranked(group: Group, metrics: Sequence[str]) -> list[str]:
    """Name methods without a seed that others have. A metric that one never has is said apart."""
    entries = {entry.method: entry for entry in group.entries}
    result = {
        method: None
        for name in metrics
        for method in unranked(group, name)
        if entries[method].n(name) or entries[method].failures or not entries[method].values
    }
    return [f"not ranked, because a seed is missing: {', '.join(result)}"] if result else []


def _idle(group: Group) -> list[str]:
    names = [] if group.is_smoke else idle(group)
    if not names:
        return []
    text = f"not ranked, because nothing measurable changed: {', '.join(names)}"
    is_whole = all(entry.unchanged for entry in group.rivals if entry.method in names)
    return [text if is_whole else f"{text} (both divergences within 1 % of the original's)"]


def _stability(group: Group, metrics: Sequence[str]) -> list[str]:
    result = {name: rank_stability(group, name) for name in _DEFINING if name in metrics}
    text = [f"{METRICS[name].heading} {s.tau:.2f}" for name, s in result.items() if s is not None]
    return [f"agreement of seeds on the ranking, Kendall's τ: {', '.join(text)}"] if text else []


def _disturbed(group: Group) -> list[str]:
    return [
        f"the time of {method}{_of_seeds(seeds)} is not ranked: images were decoded beside it"
        for method, seeds in disturbed(group).items()
    ]


def _unlike_hardware(group: Group) -> list[str]:
    result = hardware(group, rivals_only=True)
    text = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in result.items())
    if len(result) > 1:
        return [f"times are not ranked: the hardware differs: {text}"]
    if shared_gpus(group):
        return [f"times are not ranked: trials shared GPUs: {text}"]
    return []


def _dampened(group: Group) -> list[str]:
    """Say how many weights SSD dampened, and where its definition lets it dampen none."""
    lines = []
    for entry in group.entries:
        rows = [row for _, row in sorted(entry.rows.items())]
        done = [(row, phase) for row in rows for phase in row.phases if "dampened" in phase]
        if not done:
            continue
        counts = " / ".join(f"{phase['dampened']:,}" for _, phase in done)
        shares = [p["forget_share"] for row, p in done if _alpha(row) * p["forget_share"] >= 1]
        why = ""
        if shares:
            why = (
                f": next to nothing can be selected with an alpha of {1 / max(shares):.3g} or "
                f"more, since the forget set is {max(shares):.3g} of all that it is compared with"
            )
        lines.append(f"{entry.method} dampened {counts} of {done[0][1]['weights']:,} weights{why}")
    return lines


def _alpha(row: Row) -> float:
    method = row.spec["method"]
    return float(method.get("inner", method)["alpha"])


def _headings(names: Iterable[str]) -> str:
    return ", ".join(METRICS[name].heading for name in names)
