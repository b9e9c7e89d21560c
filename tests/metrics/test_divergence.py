"""Divergences against values derived by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from lotus_ray.base.errors import UndefinedMetric
from lotus_ray.metrics import jsd, jsd_compat, rf_jsd, rf_jsd_compat, zrf

# Three rows, three classes.
P = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]])
Q = np.array([[0, 1, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]])
matrices = arrays(np.float64, (4, 3), elements=st.floats(1e-3, 1)).map(
    lambda m: m / m.sum(axis=1, keepdims=True)
)
raw = arrays(np.float64, (4, 3), elements=st.floats(1e-3, 5) | st.just(0.0)).filter(np.any)


def test_jsd_by_hand() -> None:
    """Row 1: disjoint, so JS = ln 2. Rows 2 and 3: equal, so 0. Mean: (ln 2)/3."""
    assert jsd(P, Q) == pytest.approx(math.log(2) / 3, abs=1e-15)


def test_rf_jsd_by_hand() -> None:
    """Class means are normalised first: twice P against four times Q gives the JSD of P and Q.

    With R = (¾, ¼, 0) against S = (¼, ¾, 0), m = (½, ½, 0):
    ½KL(R‖m) + ½KL(S‖m) = ¾·ln(3/2) + ¼·ln(1/2) = 0.1308120359411370. Mean with the other two: /3.
    """
    assert rf_jsd(2 * P, 4 * Q) == pytest.approx(math.log(2) / 3, abs=1e-15)
    r, s = P.copy(), Q.copy()
    r[0], s[0] = [0.75, 0.25, 0], [0.25, 0.75, 0]
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert by_hand == pytest.approx(0.1308120359411370, abs=1e-15)
    assert rf_jsd(r, s) == pytest.approx(by_hand / 3, abs=1e-15)


def test_compat_values_by_hand() -> None:
    """Clamp at ε = 1e-8 and divide by the total t = 3 + 3ε (P has three zeros, Q three).

    Only row 1 differs: p = (1, ε, ε)/t, q = (ε, 1, ε)/t, so m = ((1 + ε)/2, (1 + ε)/2, ε)/t.
    Σ m·ln(m/p) over the row = (1 + ε)/(2t) · [ln((1 + ε)/2) + ln((1 + ε)/(2ε))], and the same
    for q. Half their sum, over N = 3:
    (1 + ε)/(6t) · [2·ln((1 + ε)/2) + ln(1/ε)] = 0.9463548001573596
    """
    e = 1e-8
    t = 3 + 3 * e
    by_hand = (1 + e) / (6 * t) * (2 * math.log((1 + e) / 2) + math.log(1 / e))
    assert by_hand == pytest.approx(0.9463548001573596, abs=1e-15)
    assert jsd_compat(P, Q) == pytest.approx(by_hand, rel=1e-12)
    assert rf_jsd_compat(P, Q) == pytest.approx(by_hand, rel=1e-12)


def _compat_by_its_formula(p: np.ndarray, q: np.ndarray) -> float:
    """½[Σ m·ln(m/p) + Σ m·ln(m/q)] / N, entry by entry, of matrices clamped and divided."""
    rows, columns = p.shape
    clamped = [
        [[max(float(value), 1e-8) for value in row] for row in matrix.tolist()] for matrix in (p, q)
    ]
    totals = [math.fsum(value for row in matrix for value in row) for matrix in clamped]
    terms = []
    for row in range(rows):
        for column in range(columns):
            a = clamped[0][row][column] / totals[0]
            b = clamped[1][row][column] / totals[1]
            m = (a + b) / 2
            terms += [m * math.log(m / a), m * math.log(m / b)]
    return math.fsum(terms) / 2 / rows


@pytest.mark.parametrize("divergence", [jsd_compat, rf_jsd_compat])
@given(p=raw, q=raw)
@settings(max_examples=50, deadline=None)
def test_compat_values_are_those_of_their_formula(
    divergence: Callable[[np.ndarray, np.ndarray], float], p: np.ndarray, q: np.ndarray
) -> None:
    """With entries of 0, and rows that sum to anything: class means are not normalised."""
    assert divergence(p, q) == pytest.approx(_compat_by_its_formula(p, q), rel=1e-9, abs=1e-14)


def test_compat_values_of_larger_matrices_are_those_of_their_formula() -> None:
    random = np.random.default_rng(3)
    p, q = (random.dirichlet(np.full(10, 0.1), size=200) for _ in range(2))
    value = jsd_compat(p, q)
    assert value == pytest.approx(_compat_by_its_formula(p, q), rel=1e-10)
    assert 1e-4 < value != pytest.approx(jsd(p, q), rel=0.5)


def test_zrf_by_hand() -> None:
    """The divergence of P and Q is (ln 2)/3; of equal answers it is 0, of disjoint ones ln 2."""
    assert zrf(P, Q) == pytest.approx(1 - math.log(2) / 3, abs=1e-15)
    assert zrf(P, P) == 1
    assert zrf(np.eye(3), np.roll(np.eye(3), 1, axis=1)) == pytest.approx(1 - math.log(2))


@given(p=matrices, q=matrices)
@settings(max_examples=25, deadline=None)
def test_zrf_is_1_less_scipys_distance_squared(p: np.ndarray, q: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):  # as below
        distances = np.nan_to_num([jensenshannon(a, b) for a, b in zip(p, q, strict=True)])
    assert zrf(p, q) == pytest.approx(1 - np.mean(distances**2), abs=1e-9)


# Two matrices, of whose sum of differences rounding leaves −1e-17.
EVEN = np.full((4, 3), 1 / 3)
EVEN[0] = np.array([1, 1e-3, 1e-3]) / 1.002
NEAR = EVEN + np.spacing(EVEN) * [[-1, -1, -1], [0, 0, 0], [1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("divergence", [jsd, rf_jsd, jsd_compat, rf_jsd_compat])
@given(p=matrices, q=matrices)
@example(p=EVEN, q=NEAR)
@settings(max_examples=25, deadline=None)
def test_identities(divergence, p: np.ndarray, q: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    assert divergence(p, p) == pytest.approx(0, abs=1e-12)
    assert divergence(p, q) == pytest.approx(divergence(q, p), abs=1e-12)
    assert divergence(p, q) >= 0


@given(p=matrices, q=matrices)
@settings(max_examples=50, deadline=None)
def test_jsd_is_at_most_ln_2_and_scipys_distance_squared(p: np.ndarray, q: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):  # scipy takes the root of −1e-17 where p equals q
        distances = np.nan_to_num([jensenshannon(a, b) for a, b in zip(p, q, strict=True)])
    expected = np.mean(distances**2)
    assert jsd(p, q) == pytest.approx(expected, abs=1e-9)
    assert rf_jsd(p, q) == pytest.approx(expected, abs=1e-9)
    assert jsd(p, q) <= math.log(2)


def test_disjoint_outputs_reach_ln_2() -> None:
    assert jsd(np.eye(3), np.roll(np.eye(3), 1, axis=1)) == pytest.approx(math.log(2), abs=1e-15)


def test_tensors_are_accepted() -> None:
    p, q = torch.tensor(P, requires_grad=True), torch.tensor(Q)
    assert jsd(p, q) == jsd(P, Q)


@pytest.mark.parametrize("divergence", [jsd, rf_jsd, jsd_compat, rf_jsd_compat, zrf])
def test_shapes_are_checked(divergence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="one shape"):
        divergence(P, Q[:2])
    with pytest.raises(ValueError, match="one shape"):
        divergence(P[:0], Q[:0])


def test_rows_that_are_no_distribution_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        jsd(2 * P, Q)


def test_a_class_mean_of_zeros_has_a_reason() -> None:
    """Divided by its sum it is NaN. Clamped, as the published code does, it is a row as any."""
    empty = np.vstack([P[:2], np.zeros(3)])
    with pytest.raises(UndefinedMetric, match="1 of 3 class means of the unlearned model sum to 0"):
        rf_jsd(empty, Q)
    with pytest.raises(UndefinedMetric, match="of the original model sum to 0, the first in row 2"):
        rf_jsd(P, empty)
    assert math.isfinite(rf_jsd_compat(empty, Q))


@pytest.mark.parametrize("divergence", [jsd, rf_jsd, jsd_compat, rf_jsd_compat, zrf])
@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_entries_that_are_no_probabilities_are_refused(
    divergence: Callable[[np.ndarray, np.ndarray], float], value: float
) -> None:
    wrong = P.copy()
    wrong[1, 2] = value
    for pair in ((wrong, Q), (Q, wrong)):
        with pytest.raises(ValueError, match="finite and not negative"):
            divergence(*pair)
