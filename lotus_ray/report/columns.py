"""The metrics of a report: their names, and how they are read from a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Better = Literal["low", "high", "near gold", ""]


@dataclass(frozen=True)
class Metric:
    """One metric of a report: its meaning, how it is read from a row, and which value is best."""

    heading: str
    about: str
    figure: str  # its name in rows
    better: Better = ""
    form: str = ".3f"  # in tables for people
    factor: float = 1.0

    def read(self, figures: Mapping[str, Any]) -> float | None:
        """Return the metric's value from the figures of a row, or None."""
        value = figures.get(self.figure)
        return None if value is None else value * self.factor

    def show(self, value: float | None) -> str:
        """Return a value rounded for people, or a dash."""
        return "-" if value is None else format(value, self.form)


def _attacks() -> dict[str, Metric]:
    """Return the metrics of the attacks: AUC, and TPR at two FPRs, for each score."""
    scores = {
        "entropy": "output entropy",
        "loss": "the loss",
        "confidence": "the largest output",
        "margin": "log p_y − log Σ p_j of the others",
    }
    attacks: dict[str, Metric] = {}
    for score, about in scores.items():
        name = f"mia_auc_{score}"
        attacks[name] = Metric(f"AUC {score}", f"ROC area of an attack by {about}", name)
        for rate, short in (("1 %", "1pct"), ("0.1 %", "01pct")):
            name = f"mia_tpr_{short}_{score}"
            attacks[name] = Metric(
                f"TPR@{rate} {score}",
                f"TPR at {rate} false positives, by {about}",
                name,
            )
    return attacks


# Metrics that the published tables have too are named as there.
METRICS: dict[str, Metric] = {
    "rf_jsd": Metric(
        "RF-JSD", "divergence from the original on unseen images", "rf_jsd", "low", ".2e"
    ),
    "jsd": Metric(
        "JSD", "divergence from the gold standard on the forget set", "jsd", "low", ".2e"
    ),
    "avg_gap": Metric("Avg Gap", "mean gap to gold of MIA, forget, retain, test", "avg_gap", "low"),
    "forget_acc": Metric("Forget", "accuracy on the forget set", "forget_accuracy", "near gold"),
    "retain_acc": Metric("Retain", "accuracy on the retain set", "retain_accuracy", "near gold"),
    "unseen_acc": Metric("Unseen", "accuracy on the unseen set", "unseen_accuracy", "near gold"),
    "test_acc": Metric("Test", "accuracy on the test set", "test_accuracy", "near gold"),
    "mia_acc": Metric(
        "MIA",
        "share of the forget set that a logistic regression on output entropy calls member",
        "mia_accuracy",
        "near gold",
    ),
    **_attacks(),
    "distance": Metric(
        "Distance",
        "‖θ − θ_original‖ ÷ ‖θ_original‖, of all weights",
        "relative_distance",
        form=".1e",
    ),
    "weights_moved": Metric(
        "Moved", "share of weights that are not the original's", "weights_moved"
    ),
    "outputs_changed": Metric(
        "Changed", "share of images whose output is not the original's", "outputs_changed"
    ),
    "rf_jsd_classes": Metric(
        "Classes", "classes that RF-JSD averages over", "rf_jsd_classes", "", ".0f"
    ),
    "zrf": Metric("ZRF", "1 − divergence from a random network on the forget set", "zrf"),
    "rf_jsd_x1e4": Metric(
        "RF-JSD ×1e4",
        "RF-JSD as the published code computes it",
        "rf_jsd_compat",
        "low",
        ".2f",
        1e4,
    ),
    "jsd_x1e4": Metric(
        "JSD ×1e4", "JSD as the published code computes it", "jsd_compat", "low", ".2f", 1e4
    ),
    "time_min": Metric(
        "Time min", "minutes of unlearning", "unlearn_seconds", "low", ".2f", 1 / 60
    ),
    "prepare_seconds": Metric(
        "Prepare s", "seconds before unlearning", "prepare_seconds", "", ".1f"
    ),
    "unlearn_seconds": Metric("Time s", "seconds of unlearning", "unlearn_seconds", "low", ".1f"),
    "evaluate_seconds": Metric(
        "Evaluate s", "seconds of evaluation", "evaluate_seconds", "", ".1f"
    ),
    "checkpoint_seconds": Metric(
        "Checkpoint s", "seconds of writing checkpoints", "checkpoint_seconds", "", ".1f"
    ),
    "unlearn_device_seconds": Metric(
        "Device s", "seconds of unlearning × devices", "unlearn_device_seconds", "low", ".1f"
    ),
}

BUILT_IN = tuple(METRICS)


def show_own(specs: Iterable[Mapping[str, Any]]) -> None:
    """Let METRICS have the metrics of plug-ins that cells were measured by, and no others.

    The first cell says how a metric is shown. Where another says it otherwise, no value is best.

    Args:
        specs: of the cells.
    """
    for name in METRICS.keys() - set(BUILT_IN):
        del METRICS[name]
    for own in (own for spec in specs for own in spec.get("own_metrics", ())):
        name, better = own["name"], own["better"]
        if name not in METRICS:
            METRICS[name] = Metric(own["heading"], own["about"], name, better, own["form"])
        elif METRICS[name].better != better and name not in BUILT_IN:
            METRICS[name] = replace(METRICS[name], better="")


# Rows of earlier versions have none of these: without a value they are not shown.
CHANGE = ("distance", "weights_moved", "outputs_changed")

# Beside MIA on the page: the same attack, at every threshold and where it is surest.
ATTACK = ("mia_auc_entropy", "mia_tpr_1pct_entropy")

# Columns of tables for people. Other formats have all metrics.
IN_TABLES = (
    "rf_jsd",
    "jsd",
    "avg_gap",
    "unlearn_seconds",
    "forget_acc",
    "retain_acc",
    "unseen_acc",
    "test_acc",
    "mia_acc",
)
