"""Membership inference: does the model still treat the forget set as training data?"""

from __future__ import annotations

from typing import Any

import numpy as np

from lotus_ray.base.errors import UndefinedMetric


def membership_accuracy(retain: Any, nonmember: Any, forget: Any) -> float:
    """Compute the share of the forget set that an attacker calls a member of the training set.

    The attacker is a logistic regression with balanced class weights on output entropy.

    Args:
        retain: output entropies of members, 1-D, nats.
        nonmember: output entropies of samples never trained on (unseen and test), 1-D, nats.
        forget: output entropies of the forget set, 1-D, nats.

    Returns:
        A value in [0, 1]. The closer to that of the gold standard, the better.

    Raises:
        UndefinedMetric: one of the three sets is empty.

    Source: Golatkar et al. 2020; Chundawat et al. 2023; Spartalis et al. 2025. Deviation: none.
    """
    from sklearn.linear_model import LogisticRegression

    sets = {"retain": retain, "non-member": nonmember, "forget": forget}
    arrays = {name: np.asarray(v, dtype=np.float64).reshape(-1, 1) for name, v in sets.items()}
    for name, values in arrays.items():
        if not len(values):
            raise UndefinedMetric(f"the {name} set of the attack is empty")
    members, strangers = arrays["retain"], arrays["non-member"]
    attacker = LogisticRegression(class_weight="balanced")
    attacker.fit(
        np.concatenate([members, strangers]),
        np.concatenate([np.ones(len(members)), np.zeros(len(strangers))]),
    )
    return float(attacker.predict(arrays["forget"]).mean())
