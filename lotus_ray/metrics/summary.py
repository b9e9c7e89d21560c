"""Outputs of a model -> the metrics of its row. An undefined metric is null with a reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from lotus_ray.errors import UndefinedMetric
from lotus_ray.metrics.divergence import rf_jsd, rf_jsd_compat
from lotus_ray.metrics.membership import membership_accuracy
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.roles import FORGET, RETAIN, ROLES, TEST, UNSEEN

Metrics = dict[str, float | None]


def summarise(outputs: Outputs, original: Outputs) -> tuple[Metrics, dict[str, str]]:
    """Compute the metrics of one model that need no gold standard.

    Args:
        outputs: of the model.
        original: of the original model on the same samples.

    Returns:
        Values by name at full precision, None where undefined; and the reasons of those.
    """
    computed: dict[str, Callable[[], float]] = {
        **{f"{role}_accuracy": partial(_accuracy, outputs, role) for role in ROLES},
        "mia_accuracy": lambda: membership_accuracy(
            retain=outputs.of(outputs.entropy, RETAIN),
            nonmember=outputs.of(outputs.entropy, UNSEEN, TEST),
            forget=outputs.of(outputs.entropy, FORGET),
        ),
        "rf_jsd": lambda: rf_jsd(*_class_means(outputs, original, UNSEEN, TEST)),
        "rf_jsd_compat": lambda: rf_jsd_compat(*_class_means(outputs, original, TEST)),
        "rf_jsd_classes": lambda: float(len(_class_means(outputs, original, UNSEEN, TEST)[0])),
    }
    values: Metrics = {}
    reasons: dict[str, str] = {}
    for name, compute in computed.items():
        try:
            values[name] = compute()
        except UndefinedMetric as undefined:
            values[name], reasons[name] = None, undefined.what
    return values, reasons


def _accuracy(outputs: Outputs, role: str) -> float:
    correct = outputs.of(outputs.predicted == outputs.labels, role)
    if not len(correct):
        raise UndefinedMetric(f"the {role} set is empty")
    return float(correct.mean())


def _class_means(
    outputs: Outputs, original: Outputs, *reference: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean outputs by class [k, C]: ours over the forget set, the original's over others.

    k counts the classes that both sets hold; the others are left out.
    """
    forgotten = np.bincount(outputs.of(outputs.labels, FORGET), minlength=_classes(outputs))
    referred = np.bincount(original.of(original.labels, *reference), minlength=_classes(outputs))
    present = (forgotten > 0) & (referred > 0)
    if not present.any():
        raise UndefinedMetric("no class is in both the forget set and the held-out set")
    ours = outputs.class_sums[FORGET][present] / forgotten[present, None]
    summed = np.sum([original.class_sums[role] for role in reference], axis=0)
    return ours, summed[present] / referred[present, None]


def _classes(outputs: Outputs) -> int:
    return int(outputs.forget_probs.shape[1])
