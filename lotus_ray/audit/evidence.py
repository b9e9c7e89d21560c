"""Figures of a model before and after, each with an interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from lotus_ray.audit.predicate import Attack, Figure, Value
from lotus_ray.base.errors import UndefinedMetric
from lotus_ray.base.roles import FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.metrics.attacks import AUC, RATES, attack_auc, attack_intervals, attack_tpr
from lotus_ray.metrics.membership import membership_accuracy
from lotus_ray.metrics.outputs import Outputs

WILSON = "Wilson, 95 %"
BOOTSTRAP = "bootstrap over images, 1,000 resamples, 95 %, widened for few images"
RETRAINED = "a model trained again without these images"
_CHANCE = 0.5
_NORMAL = 1.959963984540054  # its 0.975 quantile
_MOST = 5_000  # retained images that are attacked: a bootstrap over a million takes minutes


def wilson(right: float, n: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, for counts that need not be whole.

    Args:
        right: how many of n.
        n: above 0.

    Source: Wilson 1927, by scipy for whole counts. Deviation: other counts are interpolated.
    """
    if float(right).is_integer() and float(n).is_integer():
        interval = binomtest(int(right), int(n)).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)
    z, share = _NORMAL, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(middle - half), float(middle + half)


def widened(value: float, low: float, high: float, n: int) -> tuple[float, float]:
    """Return a bootstrap interval of a share, widened for few images.

    Resamples of one image are all alike, and those of a few differ too little: for one image such
    an interval holds the true value in an eighth of cases instead of 95 of 100.

    Args:
        value: of all images.
        low: the lower end, at most value.
        high: the upper end.
        n: how many images were resampled, above 0.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", 5.3: the spread grows
    by √(n / (n − 1)), and Student's t takes the place of the normal quantile. Deviation: both
    distances from the value are stretched, instead of the quantiles.
    """
    if n < 2:
        return 0.0, 1.0
    factor = float(np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1)) / _NORMAL
    return max(0.0, value - factor * (value - low)), min(1.0, value + factor * (high - value))


def accuracy(outputs: Outputs, *roles: str) -> Value | None:
    """Return the share of the images of some roles that the model recognises; None without any."""
    right = outputs.of(outputs.predicted == outputs.labels, *roles)
    if not len(right):
        return None
    low, high = wilson(float(right.sum()), len(right))
    return Value(value=float(right.mean()), low=low, high=high, n=len(right))


def accuracy_of_such(outputs: Outputs) -> Value | None:
    """Return the accuracy on held-out images, in the mix of classes of the forget set.

    The interval is Wilson's at Kish's effective number of images. None if a class of the forget
    set has no held-out image.
    """
    forgotten = outputs.of(outputs.labels, FORGET)
    labels = outputs.of(outputs.labels, UNSEEN, TEST)
    right = outputs.of(outputs.predicted == outputs.labels, UNSEEN, TEST)
    value, spread, used = 0.0, 0.0, 0
    for label, count in zip(*np.unique(forgotten, return_counts=True), strict=True):
        own = right[labels == label]
        if not len(own):
            return None
        weight = count / len(forgotten)
        value += weight * float(own.mean())
        spread += weight**2 / len(own)
        used += len(own)
    if not spread:
        return None
    low, high = wilson(value / spread, 1 / spread)
    return Value(value=value, low=low, high=high, n=used)


def unseen_membership(outputs: Outputs) -> float | None:
    """Return mia_accuracy of images that were never trained on: what it is without a trace."""
    try:
        return membership_accuracy(
            retain=outputs.of(outputs.entropy, RETAIN),
            nonmember=outputs.of(outputs.entropy, UNSEEN, TEST),
            forget=outputs.of(outputs.entropy, UNSEEN, TEST),
        )
    except UndefinedMetric:
        return None


def figures(before: Outputs, after: Outputs, gold: Outputs | None) -> list[Figure]:
    """Return the figures that people read, those of the verdict first.

    Args:
        before: outputs of the original.
        after: outputs of the unlearned model on the same images.
        gold: outputs of a model retrained without the forget set, if there is one.
    """
    such = accuracy(gold, FORGET) if gold else accuracy_of_such(after)
    new_images = "new images of the same kinds"
    loss = [auc_of_loss(before), auc_of_loss(after), auc_of_loss(gold) if gold else None]
    chance = Value(value=_CHANCE, low=_CHANCE, high=_CHANCE, n=0)
    return [
        Figure(
            name="forget_accuracy",
            meaning="share of the images to forget that the model recognises",
            interval=WILSON,
            before=accuracy(before, FORGET),
            after=accuracy(after, FORGET),
            reference=such,
            reference_is=RETRAINED if gold else new_images,
            undefined=None if such else "a class of these images has no held-out image",
        ),
        Figure(
            name="mia_auc_loss",
            meaning="how often a guess from the model's loss, which of two images was used in "
            "training, one to forget and a new one, is right: 0.5 is pure chance",
            interval=BOOTSTRAP,
            before=loss[0],
            after=loss[1],
            reference=loss[2] if gold else chance,
            reference_is=RETRAINED if gold else "pure chance",
        ),
        *(
            Figure(
                name=name,
                meaning=meaning,
                interval=WILSON,
                before=accuracy(before, *roles),
                after=accuracy(after, *roles),
                reference=accuracy(gold, *roles) if gold else accuracy(before, *roles),
                reference_is=RETRAINED if gold else "the model before",
            )
            for name, meaning, roles in (
                ("retain_accuracy", "share of the images to keep that it recognises", (RETAIN,)),
                ("heldout_accuracy", "share of new images that it recognises", (UNSEEN, TEST)),
            )
        ),
    ]


def auc_of_loss(outputs: Outputs) -> Value | None:
    """Return the AUC of the attack by the loss; None if a set is empty."""
    return _attacks(outputs, FORGET, {"loss": -outputs.loss}).get(("loss", AUC))


def attacks(before: Outputs, after: Outputs) -> list[Attack]:
    """Return all attacks on the images to forget, and on those to keep: may it expose them?"""
    result = []
    for role in (FORGET, RETAIN):
        found = [_attacks(model, role, _scores(model)) for model in (before, after)]
        for score in _scores(before):
            for figure in (AUC, *RATES):
                values = [each.get((score, figure)) for each in found]
                why = None if all(values) else "too few held-out images for this rate"
                result.append(
                    Attack(
                        score=score,
                        of="forget" if role == FORGET else "retain",
                        figure=figure,
                        before=values[0],
                        after=values[1],
                        undefined=why,
                    )
                )
    return result


def _scores(outputs: Outputs) -> dict[str, np.ndarray]:
    scores = {"loss": -outputs.loss, "entropy": -outputs.entropy, "margin": outputs.margin}
    if outputs.confidence is not None:
        scores["confidence"] = outputs.confidence
    return scores


def _attacks(
    outputs: Outputs, role: str, scores: dict[str, np.ndarray]
) -> dict[tuple[str, str], Value]:
    """Return each attack that is defined, by score and figure."""
    pairs = {}
    for name, values in scores.items():
        members, strangers = outputs.of(values, role), outputs.of(values, UNSEEN, TEST)
        if not len(members) or not len(strangers):
            return {}
        pairs[name] = (_some(members), _some(strangers))
    intervals = attack_intervals(pairs)
    result = {}
    for (name, figure), (low, high) in intervals.items():
        counts = [len(part) for part in pairs[name]]
        value = _computed(figure)(*pairs[name])
        low, high = widened(value, low, high, min(counts))
        result[name, figure] = Value(value=value, low=low, high=high, n=sum(counts))
    return result


def _computed(figure: str) -> Callable[..., float]:
    if figure == AUC:
        return attack_auc
    return lambda members, strangers: attack_tpr(members, strangers, RATES[figure])


def _some(values: np.ndarray) -> np.ndarray:
    """Return all values, or evenly spaced ones of a set that is too large."""
    if len(values) <= _MOST:
        return values
    some: np.ndarray = values[np.linspace(0, len(values) - 1, _MOST).astype(int)]
    return some
