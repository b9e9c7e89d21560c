"""Where a column cannot be read as its heading says: the original is as good as gold, or chance."""

from __future__ import annotations

from collections.abc import Sequence

from lotus_ray.report.columns import ATTACK, METRICS
from lotus_ray.report.entries import Group
from lotus_ray.report.resolution import FEW, as_good_as_gold, rf_jsd_misleads

_AUC = ATTACK[0]


def cautions(group: Group, metrics: Sequence[str]) -> list[str]:
    """Return a line for each way in which a table misleads; none for a smoke test.

    Args:
        group: the table.
        metrics: its columns.
    """
    if group.is_smoke:
        return []
    return [
        *(_rf_jsd(group) if "rf_jsd" in metrics else ()),
        *(_jsd(group) if "jsd" in metrics else ()),
        *_accuracies(group, metrics),
        *(_attack(group) if "mia_acc" in metrics else ()),
    ]


def _rf_jsd(group: Group) -> list[str]:
    original, gold = group.original, group.gold
    if original is None or gold is None or not rf_jsd_misleads(group):
        return []
    show, name = METRICS["rf_jsd"].show, "rf_jsd"
    return [
        f"RF-JSD misleads here: the untouched original has {show(original.mean(name))}, and the "
        f"gold standard {show(gold.mean(name))}; lower is not better"
    ]


def _jsd(group: Group) -> list[str]:
    start = group.original.mean("jsd") if group.original else None
    ends = [value for entry in group.rivals if (value := entry.mean("jsd")) is not None]
    if start is None or not ends or min(ends) < start:
        return []
    return ["no method has a lower JSD than the untouched original"]


def _accuracies(group: Group, metrics: Sequence[str]) -> list[str]:
    names = [METRICS[name].heading for name in as_good_as_gold(group) if name in metrics]
    if not names:
        return []
    return [
        f"{', '.join(names)}: the original and the gold standard are fewer than {FEW} images "
        "apart, so a method that changes nothing looks good"
    ]


def _attack(group: Group) -> list[str]:
    """Say so where the attack on the original, in every seed, is no better than chance."""
    original = group.original
    intervals = original.intervals.get(_AUC, {}) if original else {}
    if original is None or not intervals:
        return []
    if not all(low <= 0.5 <= high for low, high in intervals.values()):
        return []
    auc = METRICS[_AUC].show(original.mean(_AUC))
    return [
        "MIA shows no leak here: even on the original its attack is no better than chance "
        f"(AUC {auc})"
    ]
