"""What a table shows, in plain sentences. They claim no more than its rows can show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.resolution import FEW, idle, images_apart, rf_jsd_misleads
from lotus_ray.report.statistics import LEAST_SEEDS, marks, ranked

_CHANCE = 1.96  # standard errors


def findings(group: Group) -> list[str]:
    """Return what a table shows; the first sentence can stand alone."""
    if group.is_smoke:
        return ["A smoke test: it used a part of the images, and its numbers mean nothing."]
    measured = [e for e in group.rivals if e.n("forget_acc") or e.n("rf_jsd")]
    if not measured:
        return ["No unlearning method has a result here."]
    if group.gold is None or not any(entry.n("jsd") for entry in measured):
        return [*_without_gold(group, measured), *_few_seeds(group)]
    return [*_with_gold(group, group.gold), *_few_seeds(group)]


def _with_gold(group: Group, gold: Entry) -> list[str]:
    """Say whether anything is forgotten, which method is nearest to gold, and if RF-JSD agrees."""
    original = group.original
    moving = [e for e in group.rivals if e.n("jsd") and e.method not in idle(group)]
    nearest = _lowest(moving, "jsd")
    nothing = _no_forgetting(group, original, gold) if original else ""
    if nothing:
        return [nothing, *_idle_sentence(group), *_beside_rf_jsd(group, nearest)]
    if nearest is None:
        return ["No method changed anything that can be measured.", *_beside_rf_jsd(group, None)]
    accuracies = _accuracies([original, gold, nearest])
    return [_nearest(group, original, nearest), *accuracies, *_beside_rf_jsd(group, nearest)]


def _no_forgetting(group: Group, original: Entry, gold: Entry) -> str:
    """Return a sentence if the original answers the forget set as the gold standard does."""
    apart = images_apart(group, original, gold, "forget_acc")
    if apart is None or apart >= FEW:
        return ""
    count = group.samples["forget"] * original.n("forget_acc")
    images = f"{apart:.0f} image{'' if round(apart) == 1 else 's'} of {count:,} apart"
    return (
        "These data show no forgetting: the original answers the forget set as the gold standard "
        f"does ({_show(original, 'forget_acc')} and {_show(gold, 'forget_acc')} right, {images})."
    )


def _nearest(group: Group, original: Entry | None, nearest: Entry) -> str:
    """Return which method comes closest to the gold standard, if any does, and how surely."""
    value = nearest.mean("jsd") or 0.0
    start = original.mean("jsd") if original else None
    if start is not None and value >= start:
        return (
            "No method comes closer to the gold standard than the untouched original does: its JSD "
            f"is {METRICS['jsd'].show(start)}, of {nearest.method} {_show(nearest, 'jsd')}."
        )
    numbers = f"its JSD is {_show(nearest, 'jsd')}"
    if start:
        less = f"{100 * (1 - value / start):.0f} % below the untouched original's"
        numbers += f", {less} {METRICS['jsd'].show(start)}"
    if len(group.seeds) < LEAST_SEEDS:
        seeds = _seeds(group)
        return f"{nearest.method} comes closest to the gold standard on {seeds}: {numbers}."
    if marks(group, "jsd").get(nearest.method) == 1 or len(ranked(group, "jsd")) == 1:
        return f"{nearest.method} comes closest to the gold standard: {numbers}."
    return f"{nearest.method} comes closest to the gold standard, but not clearly: {numbers}."


def _accuracies(entries: Sequence[Entry | None]) -> list[str]:
    """Say how much of the forget set each of some lines answers right."""
    known = [e for e in entries if e is not None and e.n("forget_acc")]
    text = ", ".join(f"{_name(entry)} {_show(entry, 'forget_acc')}" for entry in known)
    return [f"Right answers on the forget set: {text}."] if len(known) > 1 else []


def _idle_sentence(group: Group) -> list[str]:
    names = idle(group)
    return [f"{_list(names)} changed nothing that can be measured."] if names else []


def _beside_rf_jsd(group: Group, nearest: Entry | None) -> list[str]:
    """Say whether RF-JSD, which needs no gold standard, agrees with gold."""
    original, gold = group.original, group.gold
    if original and gold and rf_jsd_misleads(group):
        return [
            "RF-JSD and gold disagree: RF-JSD, where low counts as good, is "
            f"{_show(original, 'rf_jsd')} for the untouched original and {_show(gold, 'rf_jsd')} "
            "for the gold standard."
        ]
    lowest = _lowest([e for e in group.rivals if e.method not in idle(group)], "rf_jsd")
    if lowest is None or nearest is None:
        return []
    if lowest.method == nearest.method:
        return [f"RF-JSD, which needs no gold standard, is lowest for {lowest.method} too."]
    return [
        f"RF-JSD and gold disagree: RF-JSD is lowest for {lowest.method}, and {nearest.method} is "
        "nearest to gold."
    ]


def _without_gold(group: Group, measured: Sequence[Entry]) -> list[str]:
    """Say what RF-JSD and accuracies show where nothing says how far a method should go."""
    why = "There is no gold standard here, so no method can be called the best"
    original, lowest = group.original, _lowest(measured, "rf_jsd")
    sentences = []
    if original and lowest and original.n("rf_jsd"):
        start, end = original.mean("rf_jsd") or 0.0, lowest.mean("rf_jsd") or 0.0
        least = (
            "no method has less" if end >= start else f"{lowest.method} {_show(lowest, 'rf_jsd')}"
        )
        sentences.append(
            f"{why}: RF-JSD of the untouched original is {_show(original, 'rf_jsd')}, {least}."
        )
    else:
        sentences.append(f"{why}.")
    if original and _is_null(group, original):
        sentences.append(
            "The original answers the forget set no better than images it never saw "
            f"({_show(original, 'forget_acc')} and {_show(original, 'unseen_acc')} right): the "
            "best may be to change nothing."
        )
    return sentences


def _is_null(group: Group, original: Entry) -> bool:
    """Return True if accuracy on forget and unseen images differs by no more than chance."""
    accuracies = [original.mean(name) for name in ("forget_acc", "unseen_acc")]
    counts = [group.samples.get(role, 0) for role in ("forget", "unseen")]
    if None in accuracies or not all(counts):
        return False
    forget, unseen = (value or 0.0 for value in accuracies)
    variance = sum(p * (1 - p) / n for p, n in zip((forget, unseen), counts, strict=True))
    return abs(forget - unseen) <= _CHANCE * math.sqrt(variance)


def _few_seeds(group: Group) -> list[str]:
    if len(group.seeds) >= LEAST_SEEDS:
        return []
    return [f"{_seeds(group).capitalize()}: an example, and no ranking."]


def _seeds(group: Group) -> str:
    return {1: "one seed", 2: "two seeds"}.get(len(group.seeds), f"{len(group.seeds)} seeds")


def _lowest(entries: Sequence[Entry], metric: str) -> Entry | None:
    known = [entry for entry in entries if entry.n(metric)]
    return min(known, key=lambda entry: entry.mean(metric) or 0.0, default=None)


def _name(entry: Entry) -> str:
    return {"original": "the original", "gold": "the gold standard"}.get(entry.name, entry.method)


def _show(entry: Entry, metric: str) -> str:
    return METRICS[metric].show(entry.mean(metric))


def _list(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
