"""What a table can tell apart: one image of n, a method that did something, original from gold."""

from __future__ import annotations

from lotus_ray.base.roles import FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.report.entries import Entry, Group

ROLE_OF = {
    "forget_acc": FORGET,
    "retain_acc": RETAIN,
    "unseen_acc": UNSEEN,
    "test_acc": TEST,
    "mia_acc": FORGET,
}
_GAP = (FORGET, RETAIN, TEST)  # roles that Avg Gap averages over; MIA is of the forget set
DIVERGENCES = ("rf_jsd", "jsd")
_MOVED = 0.01  # of the original's value: a divergence that moved by less did not move
FEW = 6  # images: a sign test at 5 % cannot tell fewer from chance, since 2 / 2⁵ > .05


def resolution(group: Group, metric: str) -> float | None:
    """Return the change of a metric by one image; None if it has none, or the count is unknown.

    Args:
        group: the table.
        metric: a key of METRICS.
    """
    counts = group.samples
    if metric == "avg_gap":
        sizes = [counts.get(role, 0) for role in _GAP]
        return 0.25 / min(sizes) if all(sizes) else None
    count = counts.get(ROLE_OF.get(metric, ""), 0)
    return 1 / count if count else None


def idle(group: Group) -> list[str]:
    """Return the unlearning methods that changed nothing that this table can measure.

    Their outputs all equal the original's, or in every seed no divergence moved by 1 % of the
    original's, and no accuracy on the forget set by more than one image.
    """
    return [entry.method for entry in group.rivals if entry.unchanged or _is_still(entry, group)]


def _is_still(entry: Entry, group: Group) -> bool:
    original, one = group.original, resolution(group, "forget_acc")
    if original is None or one is None or not original.n("rf_jsd"):
        return False
    limits = {metric: (_MOVED, 0.0) for metric in DIVERGENCES if original.n(metric)}
    limits["forget_acc"] = (0.0, one)
    return all(_is_near(entry, original, metric, *limit) for metric, limit in limits.items())


def _is_near(entry: Entry, original: Entry, metric: str, share: float, least: float) -> bool:
    """Return True if every seed has nearly the original's value; False if none has a value."""
    starts = original.values.get(metric, {})
    ends = entry.values.get(metric, {})
    pairs = [(starts[seed], value) for seed, value in ends.items() if seed in starts]
    return bool(pairs) and all(
        abs(value - start) <= max(share * abs(start), least * (1 + 1e-9)) for start, value in pairs
    )


def images_apart(group: Group, one: Entry, other: Entry, metric: str) -> float | None:
    """Return by how many images two lines differ in an accuracy, over all seeds; None if unknown.

    Args:
        group: the table.
        one: a line of it.
        other: another.
        metric: a key of ROLE_OF.
    """
    step = resolution(group, metric)
    seconds = other.values.get(metric, {})
    pairs = [(v, seconds[s]) for s, v in one.values.get(metric, {}).items() if s in seconds]
    return abs(sum(a - b for a, b in pairs)) / step if step and pairs else None


def as_good_as_gold(group: Group) -> list[str]:
    """Return the accuracies in which the original cannot be told from the gold standard."""
    original, gold = group.original, group.gold
    if original is None or gold is None:
        return []
    apart = {name: images_apart(group, original, gold, name) for name in ROLE_OF}
    return [name for name, images in apart.items() if images is not None and images < FEW]


def rf_jsd_misleads(group: Group) -> bool:
    """Return True if the untouched original has no more RF-JSD than the gold standard."""
    original, gold = group.original, group.gold
    ours, golds = (entry.mean("rf_jsd") if entry else None for entry in (original, gold))
    return ours is not None and golds is not None and ours <= golds
