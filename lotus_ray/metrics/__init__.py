"""Metrics of unlearning as pure functions of arrays. `evaluation` computes the arrays."""

from lotus_ray.metrics.attacks import attack_auc, attack_intervals, attack_tpr
from lotus_ray.metrics.divergence import jsd, jsd_compat, rf_jsd, rf_jsd_compat, zrf
from lotus_ray.metrics.membership import membership_accuracy

__all__ = [
    "attack_auc",
    "attack_intervals",
    "attack_tpr",
    "jsd",
    "jsd_compat",
    "membership_accuracy",
    "rf_jsd",
    "rf_jsd_compat",
    "zrf",
]

VERSION = 2  # part of every cell id: raise it when a metric is added or its value changes
