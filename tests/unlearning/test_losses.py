from __future__ import annotations

import math

import torch

from lotus_ray.unlearning import losses


def test_cross_entropy_by_hand() -> None:
    """z = (ln 3, 0): s = (¾, ¼), so −log s_0 = ln(4/3) and −log s_1 = ln 4."""
    logits = torch.tensor([[math.log(3), 0.0]] * 2, dtype=torch.float64)
    found = losses.cross_entropy(logits, torch.tensor([0, 1]))
    assert torch.allclose(found, torch.tensor([math.log(4 / 3), math.log(4)], dtype=torch.float64))


def test_soft_cross_entropy_by_hand() -> None:
    """z = (ln 3, 0), target (½, ½): ½·ln(4/3) + ½·ln 4 = ½·ln(16/3)."""
    logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    targets = torch.full((1, 2), 0.5, dtype=torch.float64)
    assert math.isclose(losses.soft_cross_entropy(logits, targets).item(), math.log(16 / 3) / 2)


def test_gumbel_noise_by_hand() -> None:
    """u = e⁻¹ gives −log(−log u) = −log 1 = 0; u = exp(−1/e) gives −log(1/e) = 1."""
    uniform = torch.tensor([[math.exp(-1), math.exp(-1 / math.e)]], dtype=torch.float64)
    assert torch.allclose(losses.gumbel(uniform), torch.tensor([[0.0, 1.0]], dtype=torch.float64))


def test_gumbel_softmax_by_hand() -> None:
    """z = (2·ln 3, 0), g = (0, 0), τ = 2: softmax(ln 3, 0) = (¾, ¼)."""
    logits = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    still = torch.full((1, 2), math.exp(-1), dtype=torch.float64)
    found = losses.gumbel_softmax(logits, 2.0, still)
    assert torch.allclose(found, torch.tensor([[0.75, 0.25]], dtype=torch.float64))


def test_gumbel_softmax_becomes_the_one_hot_sample_as_tau_vanishes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    uniform = torch.rand(200, 5, generator=generator, dtype=torch.float64).clamp_min(1e-12)
    cold = losses.gumbel_softmax(logits, 1e-4, uniform)
    sampled = losses.categorical_one_hot(logits, uniform)
    assert torch.equal(cold.round(), sampled)
    assert torch.equal(sampled.sum(dim=1), torch.ones(200, dtype=torch.float64))


def test_one_hot_samples_follow_the_softmax() -> None:
    """s = (¾, ¼): of 20,000 samples 15,000 ± 4·√(20,000·¾·¼) = ± 245 are the first class."""
    logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64).expand(20_000, 2)
    uniform = torch.rand(
        20_000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).clamp_min(1e-12)
    first = losses.categorical_one_hot(logits, uniform)[:, 0].sum().item()
    assert abs(first - 15_000) < 245
