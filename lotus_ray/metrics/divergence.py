"""Jensen-Shannon divergences between a model and its reference. Natural logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from lotus_ray.base.errors import UndefinedMetric

_COMPAT_FLOOR = 1e-8


def jsd(p: Any, q: Any) -> float:
    """Compute JSD = (1/N) Σ_x ½KL(p_x‖m_x) + ½KL(q_x‖m_x) with m = (p + q)/2.

    Args:
        p: softmax outputs of the unlearned model on the forget set, [N, C], row-stochastic.
        q: softmax outputs of the gold standard on the same rows, [N, C], row-stochastic.

    Returns:
        A value in [0, ln 2]; 0 if the models agree.

    Raises:
        ValueError: shapes differ, there is no row, an entry is negative or not finite, or rows do
            not sum to 1.

    Source: Lin 1991; Spartalis et al. 2025. Deviation: none (the published code's value is
        `jsd_compat`).
    """
    p, q = _pair(p, q)
    if not (np.allclose(p.sum(axis=1), 1, atol=1e-4) and np.allclose(q.sum(axis=1), 1, atol=1e-4)):
        raise ValueError("rows must sum to 1")
    return float(_js_rows(p, q).mean())


def rf_jsd(class_means_unlearned: Any, class_means_original: Any) -> float:
    """Compute RF-JSD = (1/k) Σ_c JS(P_c ‖ Q_c), which needs no retrained model.

    Args:
        class_means_unlearned: [k, C]. Row c is the mean softmax output of the unlearned model
            over the forget samples of class c. Rows are normalised to sum 1 here.
        class_means_original: [k, C]. The same for the original over held-out samples.

    Returns:
        A value in [0, ln 2].

    Raises:
        UndefinedMetric: a row sums to 0, so that there is nothing to normalise.
        ValueError: shapes differ, there is no row, or an entry is negative or not finite.

    Source: Spartalis et al. 2025, RF-JSD. Deviation: none (the published code's value is
        `rf_jsd_compat`).
    """
    p, q = _pair(class_means_unlearned, class_means_original)
    for name, means in (("unlearned", p), ("original", q)):
        empty = np.flatnonzero(means.sum(axis=1) == 0)
        if len(empty):
            raise UndefinedMetric(
                f"{len(empty)} of {len(means)} class means of the {name} model sum to 0, "
                f"the first in row {empty[0]}"
            )
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float(_js_rows(p, q).mean())


def zrf(p: Any, q: Any) -> float:
    """Compute ZRF = 1 − (1/N) Σ_x JS(p_x ‖ q_x): likeness to a random network.

    Args:
        p: softmax outputs M(x) of the unlearned model on the forget set, [N, C], row-stochastic.
        q: softmax outputs T_d(x) of a randomly initialised network on the same rows, [N, C].

    Returns:
        A value in [1 − ln 2, 1]; 1 if the model answers exactly as the random network.

    Raises:
        ValueError: shapes differ, there is no row, an entry is negative or not finite, or rows do
            not sum to 1.

    Source: Chundawat et al. 2023, zero retrain forgetting. Deviation: natural logarithms, as `jsd`.
        The divergence is that of the paper's formula. The published code uses KL(m‖p) instead of
        KL(p‖m), and divides by N·C instead of N.
    """
    return 1 - jsd(p, q)


def jsd_compat(p: Any, q: Any) -> float:
    """Compute the published code's JSD, for comparison with its tables.

    Both matrices are clamped to at least 1e-8 and divided by their total sum. With m their mean,
    the value is ½[Σ m·log(m/p) + Σ m·log(m/q)] / N.

    Args:
        p: [N, C], as for `jsd`.
        q: [N, C], as for `jsd`.

    Returns:
        A value ≥ 0, about N times smaller than a divergence.

    Raises:
        ValueError: shapes differ, there is no row, or an entry is negative or not finite.

    Source: the published code of Spartalis et al. 2025. Deviation: theirs is rounded to six
        decimals.
    """
    from scipy.special import rel_entr

    p, q = _pair(p, q)
    p, q = np.maximum(p, _COMPAT_FLOOR), np.maximum(q, _COMPAT_FLOOR)
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    value = float((rel_entr(m, p).sum() + rel_entr(m, q).sum()) / 2 / len(p))
    return max(value, 0.0)  # of nearly equal matrices, rounding leaves −1e-20


def rf_jsd_compat(class_means_unlearned: Any, class_means_original: Any) -> float:
    """Compute the published code's RF-JSD: `jsd_compat` of class means.

    Args:
        class_means_unlearned: [k, C], as for `rf_jsd`.
        class_means_original: [k, C], as for `rf_jsd`.

    Returns:
        A value ≥ 0.

    Raises:
        ValueError: shapes differ, there is no row, or an entry is negative or not finite.

    Source: the published code of Spartalis et al. 2025. Deviation: theirs is rounded to six
        decimals.
    """
    return jsd_compat(class_means_unlearned, class_means_original)


def _js_rows(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    from scipy.special import rel_entr  # imported late: planning a job does not need it

    m = (p + q) / 2
    values = (rel_entr(p, m).sum(axis=1) + rel_entr(q, m).sum(axis=1)) / 2
    return np.clip(values, 0.0, np.log(2.0))  # type: ignore[no-any-return]


def _pair(p: Any, q: Any) -> tuple[np.ndarray, np.ndarray]:
    p, q = _matrix(p), _matrix(q)
    if p.shape != q.shape or p.ndim != 2 or not len(p):
        raise ValueError(f"two matrices [N, C] of one shape are needed, not {p.shape}, {q.shape}")
    for values in (p, q):
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError("entries must be finite and not negative")
    return p, q


def _matrix(values: Any) -> np.ndarray:
    """Return float64, from anything that numpy reads or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)
