"""Attacks by a threshold against scikit-learn, values derived by hand, and a resampling loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import auc, roc_curve

from lotus_ray.base.errors import UndefinedMetric
from lotus_ray.metrics import attack_auc, attack_intervals, attack_tpr
from lotus_ray.metrics.attacks import RATES, _Contest, resamples

# Few different values, so that ties within a set and between sets are the rule.
tied = arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 6).map(float))
distinct = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6))
sets = st.one_of(st.tuples(tied, tied), st.tuples(distinct, distinct))


def curve_of(
    forget: np.ndarray, nonmember: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's ROC curve: FPR and TPR of each threshold."""
    truth = np.repeat([1, 0], [len(forget), len(nonmember)])
    both = np.concatenate([forget, nonmember])
    fpr, tpr, _ = roc_curve(truth, both, sample_weight=weights, drop_intermediate=False)
    return fpr, tpr


def tpr_at(rate: float, fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Return the largest TPR of a curve where the FPR is at most `rate`."""
    # A hair above the rate: sums of weights may round what is exactly 1/100.
    return float(tpr[fpr <= rate + 1e-9].max())


def shifted(n_forget: int, n_nonmember: int, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return normal scores, those of the forget set higher by 0.5, with ties by rounding."""
    random = np.random.default_rng(7)
    pair = random.normal(0.5, 1, n_forget), random.normal(0, 1, n_nonmember)
    return pair[0].round(digits), pair[1].round(digits)


def test_auc_by_hand() -> None:
    """3 beats 0, 1 and 2 and ties with 3: 3½; 1 beats 0 and ties with 1: 1½. 5 of 8 pairs."""
    assert attack_auc([3, 1], [0, 1, 2, 3]) == 5 / 8
    assert attack_auc([0, 1, 2, 3], [3, 1]) == 3 / 8


def test_scores_that_tell_all_nothing_or_the_opposite() -> None:
    assert attack_auc([2, 3], [0, 1]) == 1
    assert attack_auc([1, 1], [1, 1, 1]) == 0.5
    assert attack_auc([0, 1], [2, 3]) == 0


def test_tpr_by_hand() -> None:
    """Non-members 0 … 9, one in ten allowed: the threshold may pass 9 and not 8.

    Above 8 lie 8.5, 9 and 9.5 of 6; 8 does not, since a threshold at 8 passes two non-members. At
    two in ten it may pass 8 and not 7: 8 and 7.5 come in, 7 does not.
    """
    forget, nonmember = [9.5, 9, 8.5, 8, 7.5, 7], np.arange(10)
    assert attack_tpr(forget, nonmember, 0.1) == 3 / 6
    assert attack_tpr(forget, nonmember, 0.2) == 5 / 6


def test_a_tie_of_too_many_non_members_is_above_the_threshold() -> None:
    """Both highest non-members are 9, one is allowed: nothing at 9 counts, only 10 does."""
    assert attack_tpr([10, 9, 9, 8], [9, 9, *range(8)], 0.1) == 1 / 4


def test_a_rate_that_the_non_members_just_resolve() -> None:
    """One of 100 is exactly 1 %; of 99 it is more, as is one of 999 for 0.1 %."""
    assert attack_tpr([98.5], range(100), 0.01) == 1
    assert attack_tpr([5000.0], range(1000), 0.001) == 1
    with pytest.raises(UndefinedMetric, match="1 % of 99 non-members is less than one"):
        attack_tpr([98.5], range(99), 0.01)
    with pytest.raises(UndefinedMetric, match=r"0\.1 % of 359 non-members is less than one"):
        attack_tpr([98.5], range(359), 0.001)


def test_infinite_scores_have_their_place() -> None:
    """∞ ties with ∞ (½) and beats 0 and −∞: 2½; 0 beats −∞ and ties with 0: 1½. 4 of 6.

    One in three allowed: the threshold may pass ∞ and not 0, and only ∞ lies above 0. None of
    the forget set lies above an ∞ that is not allowed.
    """
    inf = math.inf
    assert attack_auc([inf, 0], [inf, 0, -inf]) == 4 / 6
    assert attack_tpr([inf, 0], [inf, 0, -inf], 1 / 3) == 1 / 2
    assert attack_tpr([inf, 0], [inf, inf, -inf], 1 / 3) == 0
    assert attack_auc([-inf, -inf], [-inf, 0]) == 1 / 4
    ((low, high),) = attack_intervals({"margin": ([inf, 0], [inf, 0, -inf])}).values()
    assert 0 <= low < high <= 1


@given(pair=sets)
@settings(max_examples=150, deadline=None)
def test_auc_is_scikit_learns(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert attack_auc(*pair) == pytest.approx(auc(*curve_of(*pair)), abs=1e-12)


@given(pair=sets, rate=st.sampled_from([0.04, 0.1, 1 / 3, 0.5, 0.9]))
@settings(max_examples=150, deadline=None)
def test_tpr_is_that_of_scikit_learns_curve(
    pair: tuple[np.ndarray, np.ndarray], rate: float
) -> None:
    if 1 / len(pair[1]) > rate:
        with pytest.raises(UndefinedMetric, match="less than one"):
            attack_tpr(*pair, rate)
    else:
        expected = tpr_at(rate, *curve_of(*pair))
        assert attack_tpr(*pair, rate) == pytest.approx(expected, abs=1e-12)


def test_large_sets_at_the_rates_of_rows() -> None:
    pair = shifted(700, 3000, digits=2)
    assert 0.5 < attack_auc(*pair) == pytest.approx(auc(*curve_of(*pair)), abs=1e-12)
    for rate in RATES.values():
        expected = tpr_at(rate, *curve_of(*pair))
        assert 0 < attack_tpr(*pair, rate) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("empty", ["forget", "non-member"])
def test_an_empty_set_is_undefined(empty: str) -> None:
    forget, nonmember = ([], [0.0]) if empty == "forget" else ([0.0], [])
    with pytest.raises(UndefinedMetric, match=f"the {empty} set of the attack is empty"):
        attack_auc(forget, nonmember)
    with pytest.raises(UndefinedMetric, match=f"the {empty} set of the attack is empty"):
        attack_tpr(forget, nonmember, 0.5)
    assert attack_intervals({"loss": (forget, nonmember)}) == {}


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="forget set is NaN"):
        attack_auc([math.nan], [0.0])
    with pytest.raises(ValueError, match="non-member set is NaN"):
        attack_tpr([0.0], [math.nan], 0.5)


def test_resamples_draw_as_many_samples_as_there_are() -> None:
    forget, nonmember = (np.concatenate(parts) for parts in zip(*resamples(5, 7), strict=True))
    assert (forget.shape, nonmember.shape) == ((1000, 5), (1000, 7))
    assert (forget.sum(axis=1) == 5).all()
    assert (nonmember.sum(axis=1) == 7).all()
    # Each is drawn once on average; its variance over 1,000 rows is (1 − 1/5)/1000: 5σ are 0.14.
    assert np.abs(forget.mean(axis=0) - 1).max() < 0.14
    assert len(np.unique(forget, axis=0)) > 50


@pytest.mark.parametrize(
    ("n_nonmember", "figures"),
    [(120, ["auc", "tpr_1pct"]), (1500, ["auc", "tpr_1pct", "tpr_01pct"])],
)
def test_intervals_are_quantiles_of_scikit_learn_under_the_same_weights(
    n_nonmember: int, figures: list[str]
) -> None:
    """0.1 % of 120 is less than one; 1,500 are drawn in two blocks or more."""
    pair = shifted(60, n_nonmember)
    found = attack_intervals({"loss": pair})
    blocks = list(resamples(60, n_nonmember))
    assert (len(blocks) > 1) == (n_nonmember == 1500)
    rows = [np.concatenate(drawn) for block in blocks for drawn in zip(*block, strict=True)]
    rates = [RATES[figure] for figure in figures[1:]]
    curves = [curve_of(*pair, row) for row in rows]
    values = [(auc(*curve), *(tpr_at(rate, *curve) for rate in rates)) for curve in curves]
    expected = np.quantile(values, [0.025, 0.975], axis=0).T
    assert list(found) == [("loss", figure) for figure in figures]
    assert np.array(list(found.values())) == pytest.approx(expected, abs=1e-12)
    assert expected[1, 0] < expected[1, 1]


def test_a_resample_of_nothing_but_the_lowest_non_member() -> None:
    """Its 400 copies are all above the threshold of 1 %, or none: all of the forget set above it
    counts, 5 of 6. The highest 58 non-members, which are looked at first, have no weight.
    """
    contest = _Contest([-1, 1, 2, 3, 4, 5], np.arange(400))
    nonmember = np.zeros((1, 400))
    nonmember[0, 0] = 400
    assert contest.tprs(np.ones((1, 6)), nonmember, 0.01) == [5 / 6]


def test_intervals_are_those_of_a_plain_resampling_loop() -> None:
    """Drawn otherwise, quantiles differ by chance: their standard error is about 0.1 σ.

    σ of this AUC is 0.028, so 0.012 is four of them; of the TPR at 1 % it is about 0.05.
    """
    forget, nonmember = shifted(143, 359)
    random = np.random.default_rng(123)
    aucs, tprs = [], []
    for _ in range(1000):
        ours = random.choice(forget, len(forget))
        others = random.choice(nonmember, len(nonmember))
        curve = curve_of(ours, others)
        aucs.append(auc(*curve))
        tprs.append(tpr_at(0.01, *curve))
    found = attack_intervals({"loss": (forget, nonmember)})
    assert found["loss", "auc"] == pytest.approx(np.quantile(aucs, [0.025, 0.975]), abs=0.012)
    assert found["loss", "tpr_1pct"] == pytest.approx(np.quantile(tprs, [0.025, 0.975]), abs=0.03)
    assert np.std(aucs) == pytest.approx(0.028, abs=0.003)


def test_an_interval_holds_its_value_and_is_the_same_again() -> None:
    pair = shifted(143, 359)
    found = attack_intervals({"loss": pair})
    low, high = found["loss", "auc"]
    assert low < attack_auc(*pair) < high
    assert found == attack_intervals({"loss": pair})


def test_equal_scores_have_equal_intervals_since_their_resamples_are_the_same() -> None:
    """A score and what orders samples alike, such as its cube, cannot differ."""
    forget, nonmember = shifted(40, 150)
    found = attack_intervals({"one": (forget, nonmember), "cube": (forget**3, nonmember**3)})
    for figure in ("auc", "tpr_1pct"):
        assert found["one", figure] == found["cube", figure]
