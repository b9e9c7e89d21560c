"""Outputs of a model -> the metrics of its row. An undefined metric is null with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lotus_ray.base.errors import UndefinedMetric
from lotus_ray.base.roles import FORGET, RETAIN, ROLES, TEST, UNSEEN
from lotus_ray.metrics.attacks import AUC, RATES, attack_auc, attack_intervals, attack_tpr
from lotus_ray.metrics.divergence import rf_jsd, rf_jsd_compat, zrf
from lotus_ray.metrics.membership import membership_accuracy
from lotus_ray.metrics.outputs import Outputs

Compute = Callable[[], float]


@dataclass(frozen=True)
class Summary:
    """The metrics of a row at full precision, None if undefined, and why they are undefined.

    `intervals` holds [low, high], 95 % over samples, of the metrics that have an interval.
    """

    values: dict[str, float | None] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a row that hold the metrics."""
        return {
            "metrics": self.values,
            "undefined": self.undefined,
            "intervals": self.intervals,
        }


def summarise(outputs: Outputs, original: Outputs | None) -> Summary:
    """Compute the metrics of one model that need no gold standard.

    Args:
        outputs: of the model.
        original: outputs of the original on the same samples. Without it, metrics that compare
            with the original are undefined.
    """
    attackable = _attackable(outputs)
    computed: dict[str, Compute] = {
        **{f"{role}_accuracy": partial(_accuracy, outputs, role) for role in ROLES},
        "mia_accuracy": lambda: membership_accuracy(
            retain=outputs.of(outputs.entropy, RETAIN),
            nonmember=outputs.of(outputs.entropy, UNSEEN, TEST),
            forget=outputs.of(outputs.entropy, FORGET),
        ),
        "rf_jsd": lambda: rf_jsd(*_class_means(outputs, original, UNSEEN, TEST)),
        "rf_jsd_compat": lambda: rf_jsd_compat(*_class_means(outputs, original, TEST)),
        "rf_jsd_classes": lambda: float(len(_class_means(outputs, original, UNSEEN, TEST)[0])),
        "zrf": partial(_zrf, outputs, original),
        **_attacks(attackable),
    }
    summary = Summary()
    for name, compute in computed.items():
        try:
            summary.values[name] = compute()
        except UndefinedMetric as undefined:
            summary.values[name], summary.undefined[name] = None, undefined.what
    kept = {score: pair for score, pair in attackable.items() if pair is not None}
    for (score, figure), interval in attack_intervals(kept).items():
        summary.intervals[_attack_name(figure, score)] = interval
    return summary


def _accuracy(outputs: Outputs, role: str) -> float:
    correct = outputs.of(outputs.predicted == outputs.labels, role)
    if not len(correct):
        raise UndefinedMetric(f"the {role} set is empty")
    return float(correct.mean())


Pair = tuple[np.ndarray, np.ndarray]  # of the forget set and of the samples never trained on


def _attackable(outputs: Outputs) -> dict[str, Pair | None]:
    """Return the scores of both sets by name; higher is more like a member; None if not kept."""
    scores = {
        "entropy": -outputs.entropy,
        "loss": -outputs.loss,
        "confidence": outputs.confidence,
        "margin": outputs.margin,
    }
    return {
        name: None
        if values is None
        else (outputs.of(values, FORGET), outputs.of(values, UNSEEN, TEST))
        for name, values in scores.items()
    }


def _attacks(attackable: dict[str, Pair | None]) -> dict[str, Compute]:
    attacks: dict[str, Compute] = {}
    for score, pair in attackable.items():
        attacks[_attack_name(AUC, score)] = partial(_attack, attack_auc, score, pair)
        for figure, rate in RATES.items():
            attack = partial(attack_tpr, rate=rate)
            attacks[_attack_name(figure, score)] = partial(_attack, attack, score, pair)
    return attacks


def _attack(attack: Callable[..., float], score: str, pair: Pair | None) -> float:
    if pair is None:
        raise UndefinedMetric(f"the row is of metrics version 1, which did not keep the {score}")
    return attack(*pair)


def _attack_name(figure: str, score: str) -> str:
    return f"mia_{figure}_{score}"


def _zrf(outputs: Outputs, original: Outputs | None) -> float:
    random = _required(original).random_forget_probs
    if random is None:
        raise UndefinedMetric("its original is of metrics version 1, without a random network")
    if not len(random):
        raise UndefinedMetric("the forget set is empty")
    return zrf(outputs.forget_probs, random)


def _class_means(
    outputs: Outputs, original: Outputs | None, *reference: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean outputs by class [k, C]: ours on the forget set, the original's on `reference`.

    k counts the classes that are in both sets. Other classes are left out.
    """
    original = _required(original)
    forgotten = np.bincount(outputs.of(outputs.labels, FORGET), minlength=_classes(outputs))
    referred = np.bincount(original.of(original.labels, *reference), minlength=_classes(outputs))
    present = (forgotten > 0) & (referred > 0)
    if not present.any():
        raise UndefinedMetric("no class is in both the forget set and the held-out set")
    ours = outputs.class_sums[FORGET][present] / forgotten[present, None]
    summed = np.sum([original.class_sums[role] for role in reference], axis=0)
    return ours, summed[present] / referred[present, None]


def _required(original: Outputs | None) -> Outputs:
    if original is None:
        raise UndefinedMetric("there is no good row of its original")
    return original


def _classes(outputs: Outputs) -> int:
    return int(outputs.forget_probs.shape[1])
