"""Metrics of unlearning as pure functions of arrays; `evaluation` makes the arrays from a model."""

from lotus_ray.metrics.divergence import jsd, jsd_compat, rf_jsd, rf_jsd_compat
from lotus_ray.metrics.membership import membership_accuracy

__all__ = ["jsd", "jsd_compat", "membership_accuracy", "rf_jsd", "rf_jsd_compat"]

VERSION = 1  # part of every cell's identity: raise it when a metric's value changes
