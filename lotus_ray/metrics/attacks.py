"""Attacks by a threshold on one score per sample: can they separate forget from unseen samples?

Positives are the forget set. Negatives are the unseen and the test set. An attack calls a sample a
member if its score is at or above a threshold. If a set is forgotten, no threshold is better than
chance, which is an AUC of 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lotus_ray.base.errors import UndefinedMetric

RATES = {"tpr_1pct": 0.01, "tpr_01pct": 0.001}  # rates of false positives, by metric name
AUC = "auc"

_RESAMPLES = 1000
_SEED = 0
_LEVELS = (0.025, 0.975)
_AT_A_TIME = 1_000_000  # weights of samples: 8 MB


def attack_auc(forget: Any, nonmember: Any) -> float:
    """Compute AUC = P(s_f > s_n) + ½P(s_f = s_n) over pairs of a forgotten and an unseen sample.

    Args:
        forget: scores s_f of the forget set, 1-D. Higher means more like a member. ±∞ is allowed.
        nonmember: scores s_n of samples never trained on (unseen and test), 1-D.

    Returns:
        A value in [0, 1]; 0.5 if the attack is no better than chance.

    Raises:
        UndefinedMetric: one of the two sets is empty.
        ValueError: a score is NaN.

    Source: Hanley and McNeil 1982. Deviation: none.
    """
    contest = _Contest(forget, nonmember)
    return float(contest.aucs(*contest.once)[0])


def attack_tpr(forget: Any, nonmember: Any, rate: float) -> float:
    """Compute the largest TPR over all thresholds whose FPR does not exceed `rate`.

    Args:
        forget: scores [n_f], as for `attack_auc`.
        nonmember: scores [n_n], as for `attack_auc`.
        rate: of false positives, in (0, 1).

    Returns:
        A value in [0, 1], without interpolation between two thresholds.

    Raises:
        UndefinedMetric: one of the two sets is empty, or n_n · rate < 1.
        ValueError: a score is NaN.

    Source: Carlini et al. 2022, TPR at low FPR. Deviation: none.
    """
    contest = _Contest(forget, nonmember)
    return float(contest.tprs(*contest.once, rate)[0])


def attack_intervals(scores: Mapping[str, tuple[Any, Any]]) -> dict[tuple[str, str], list[float]]:
    """Compute 95 % percentile bootstrap intervals of every metric that is defined.

    Both sets are resampled independently, 1,000 times with a fixed seed. Each resample draws the
    same samples for every score.

    Args:
        scores: the scores of the forget set [n_f] and of the non-members [n_n], by score name. All
            scores list the samples in the same order.

    Returns:
        [low, high] by score name and metric ("auc" or a name of RATES). Undefined metrics are
        left out.

    Raises:
        ValueError: a score is NaN.

    Source: Efron 1979, percentile intervals. Deviation: none.
    """
    if not scores or not all(np.size(values) for values in next(iter(scores.values()))):
        return {}
    contests = {name: _Contest(*pair) for name, pair in scores.items()}
    first = next(iter(contests.values()))
    rates = {name: rate for name, rate in RATES.items() if first.allowed(rate)}
    result: dict[tuple[str, str], list[np.ndarray]] = {}
    for weights in resamples(first.n_forget, first.n_nonmember):
        for score, contest in contests.items():
            result.setdefault((score, AUC), []).append(contest.aucs(*weights))
            for name, rate in rates.items():
                result.setdefault((score, name), []).append(contest.tprs(*weights, rate))
    return {key: _interval(np.concatenate(parts)) for key, parts in result.items()}


def resamples(n_forget: int, n_nonmember: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield how often each sample is drawn, float64 [B, n_forget] and [B, n_nonmember].

    There are 1,000 rows in all, B at a time. The same two sizes always give the same rows.

    Args:
        n_forget: size of the forget set.
        n_nonmember: size of the set of non-members.
    """
    random = np.random.default_rng(_SEED)
    rows = max(1, _AT_A_TIME // (n_forget + n_nonmember))
    for start in range(0, _RESAMPLES, rows):
        count = min(rows, _RESAMPLES - start)
        yield _drawn(random, count, n_forget), _drawn(random, count, n_nonmember)


class _Contest:
    """The scores of two sets, sorted once, for metrics under any weights of the samples.

    Weights are integers in float64, [B, n_f] and [B, n_n]. Their rows sum to n_f and n_n. Every
    sum of them is exact, so no metric depends on the order of summation.
    """

    def __init__(self, forget: Any, nonmember: Any) -> None:
        forget, self.nonmember = _scores(forget, "forget"), _scores(nonmember, "non-member")
        self.rising = np.argsort(forget)
        self.forget = forget[self.rising]
        self.falling = np.argsort(self.nonmember)[::-1]
        # Non-members between the same two forget scores share one look-up: [U] look-ups.
        low = np.searchsorted(self.forget, self.nonmember, side="left")
        high = np.searchsorted(self.forget, self.nonmember, side="right")
        _, kinds, self.kind = np.unique(low + high, return_index=True, return_inverse=True)
        self.low, self.high = low[kinds], high[kinds]

    @property
    def n_forget(self) -> int:
        return len(self.forget)

    @property
    def n_nonmember(self) -> int:
        return len(self.nonmember)

    @property
    def once(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the original sample: each member counts once."""
        return np.ones((1, self.n_forget)), np.ones((1, self.n_nonmember))

    def allowed(self, rate: float) -> int:
        """Return how many false positives a rate allows: the largest k with k / n_n ≤ rate."""
        rates = np.arange(self.n_nonmember + 1) / self.n_nonmember
        return int(np.searchsorted(rates, rate, side="right")) - 1

    def aucs(self, forget: np.ndarray, nonmember: np.ndarray) -> np.ndarray:
        """Return the AUC [B] under weights: 1 − Σ_n w_n · (below + ½ equal) / (n_f · n_n)."""
        below = self._below(forget)
        twice = np.take(below[:, self.low] + below[:, self.high], self.kind, axis=1)
        lost = np.einsum("bn,bn->b", twice, nonmember)
        total = 2 * self.n_forget * self.n_nonmember
        aucs: np.ndarray = (total - lost) / total
        return aucs

    def tprs(self, forget: np.ndarray, nonmember: np.ndarray, rate: float) -> np.ndarray:
        """Return the TPR [B] under weights: the share above the first disallowed non-member."""
        allowed = self.allowed(rate)
        if allowed < 1:
            what = f"{rate * 100:g} % of {self.n_nonmember} non-members is less than one"
            raise UndefinedMetric(what)
        limit = self._after(nonmember, allowed)
        indices = np.searchsorted(self.forget, limit, side="right")
        below = np.take_along_axis(self._below(forget), indices[:, None], axis=1)[:, 0]
        tprs: np.ndarray = (self.n_forget - below) / self.n_forget
        return tprs

    def _below(self, weights: np.ndarray) -> np.ndarray:
        """Return [B, n_f + 1]: column i is the weight of the i lowest forget scores."""
        below = np.zeros((len(weights), self.n_forget + 1))
        np.cumsum(weights[:, self.rising], axis=1, out=below[:, 1:])
        return below

    def _after(self, weights: np.ndarray, allowed: int) -> np.ndarray:
        """Return the score [B] of the next non-member after the `allowed` highest ones."""
        falling = self.falling[: 2 * allowed + 50]  # nearly always enough
        counts = np.cumsum(weights[:, falling], axis=1)
        if (counts[:, -1] <= allowed).any():
            falling = self.falling
            counts = np.cumsum(weights[:, falling], axis=1)
        limit: np.ndarray = self.nonmember[falling[(counts > allowed).argmax(axis=1)]]
        return limit


def _scores(values: Any, name: str) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if not len(scores):
        raise UndefinedMetric(f"the {name} set of the attack is empty")
    if np.isnan(scores).any():
        raise ValueError(f"a score of the {name} set is NaN")
    return scores


def _drawn(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    drawn = random.integers(size, size=(count, size), dtype=np.int32)
    return np.array([np.bincount(row, minlength=size) for row in drawn], dtype=np.float64)


def _interval(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.quantile(values, _LEVELS)]
