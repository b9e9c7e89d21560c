"""Losses as pure functions of logits: one value per row, which `Batch.mean` averages."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute −log s(z)_y for each row.

    Args:
        logits: z, float [N, C].
        labels: y, int64 [N].

    Returns:
        float [N].

    Source: textbook. Deviation: none.
    """
    return functional.cross_entropy(logits, labels, reduction="none")


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute −Σ_j target_j · log s(z)_j for each row.

    Args:
        logits: student's z_s, float [N, C].
        targets: row-stochastic, float [N, C].

    Returns:
        float [N].

    Source: Spartalis et al. 2025 (LoTUS), its loss. Deviation: none.
    """
    return -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1)


def kl_divergence(targets: Tensor, logits: Tensor) -> Tensor:
    """Compute KL(q ‖ s(z)) = Σ_j q_j · (log q_j − log s(z)_j) for each row; 0·log 0 is 0.

    Args:
        targets: q, row-stochastic, float [N, C]; no gradient flows into it.
        logits: student's z, float [N, C].

    Returns:
        float [N].

    Source: textbook. Deviation: none.
    """
    return (torch.xlogy(targets, targets) - targets * functional.log_softmax(logits, dim=1)).sum(1)


def wrong_labels(labels: Tensor, uniform: Tensor, num_classes: int) -> Tensor:
    """Draw a label for each row uniformly from the K − 1 classes that it does not have.

    Args:
        labels: int64 [N].
        uniform: float64 [N] in (0, 1).
        num_classes: K.

    Returns:
        int64 [N], nowhere equal to `labels`.

    Source: Graves et al. 2021 (amnesiac unlearning), Spartalis et al. 2025. Deviation: none.
    """
    step = 1 + (uniform * (num_classes - 1)).long().clamp_max(num_classes - 2)
    return (labels + step) % num_classes


def gumbel_softmax(logits: Tensor, tau: float, uniform: Tensor) -> Tensor:
    """Compute p_i = exp((z_i + g_i)/τ) / Σ_j exp((z_j + g_j)/τ) with g = −log(−log u).

    Args:
        logits: teacher's z_t, float [N, C].
        tau: τ > 0.
        uniform: u, float64 [N, C] in (0, 1), the noise.

    Returns:
        float [N, C], row-stochastic, in the dtype of `logits`.

    Source: Jang et al. 2017, eq. 2; Spartalis et al. 2025. Deviation: none.
    """
    return functional.softmax((logits + gumbel(uniform).to(logits)) / tau, dim=1)


def categorical_one_hot(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw a one-hot sample of the categorical distribution s(z): gumbel_softmax as τ → 0⁺.

    Args:
        logits: teacher's z_t, float [N, C].
        uniform: float64 [N, C] in (0, 1).

    Returns:
        float [N, C], one 1 per row.

    Source: Maddison et al. 2017 (the Gumbel-max trick). Deviation: none.
    """
    winner = (logits + gumbel(uniform).to(logits)).argmax(dim=1)
    return functional.one_hot(winner, logits.shape[1]).to(logits)


def gumbel(uniform: Tensor) -> Tensor:
    """Turn uniform numbers in (0, 1) into Gumbel(0, 1) noise of the same shape."""
    return -(-uniform.log()).log()


def without_label(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits in which the class of each row's label has −∞.

    Args:
        logits: z, float [N, C].
        labels: y, int64 [N].

    Returns:
        float [N, C]. Its softmax is s(z) without y, rescaled to 1; its argmax is not y.

    Source: Zhou et al. 2025 (DELETE). Deviation: none.
    """
    return logits.scatter(1, labels[:, None], -torch.inf)
