from __future__ import annotations

import numpy as np
import pytest

from lotus_ray.base.errors import UndefinedMetric
from lotus_ray.metrics import membership_accuracy


def test_share_of_the_forget_set_on_the_members_side() -> None:
    """Members near entropy 0, strangers near 2: the checkpoint lies near 1; 3 of 4 lie below it."""
    members, strangers = np.linspace(0, 0.2, 50), np.linspace(1.8, 2, 50)
    assert membership_accuracy(members, strangers, [0.1, 0.2, 0.3, 1.9]) == 0.75


def test_classes_are_balanced() -> None:
    """Ten members at 0 against 1,000 strangers at 1: unbalanced, all would be strangers."""
    assert membership_accuracy(np.zeros(10), np.ones(1000), [0.0, 0.0]) == 1.0


@pytest.mark.parametrize("empty", ["retain", "nonmember", "forget"])
def test_an_empty_set_is_undefined_not_zero(empty: str) -> None:
    sets = {"retain": [0.0, 0.1], "nonmember": [1.0, 1.1], "forget": [0.5]}
    with pytest.raises(UndefinedMetric, match="empty"):
        membership_accuracy(**(sets | {empty: []}))
