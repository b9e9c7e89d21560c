from __future__ import annotations

import torch

from lotus_ray.base import seeds


def test_seed_is_the_same_on_every_machine() -> None:
    """The first 8 bytes of BLAKE2b("3407\\x1fshuffle"), little-endian, without the lowest bit."""
    assert seeds.seed_for(3407, "shuffle") == 6077703162435062725


def test_names_are_not_glued_together() -> None:
    assert seeds.seed_for("ab", "c") != seeds.seed_for("a", "bc")


def test_scores_are_splitmix64() -> None:
    """SplitMix64 from state 0 gives 0xE220A8397B1DCDAF first: its finaliser on one golden step.

    A score is the finaliser on key ^ seed, so the key here is golden step ^ seed.
    """
    golden = 0x9E3779B97F4A7C15 - (1 << 64)
    key = torch.tensor([golden ^ seeds.seed_for("stream")])
    assert seeds.scores(key, "stream").item() & (1 << 64) - 1 == 0xE220A8397B1DCDAF


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    """Mean ½ and variance 1/12 within 4 standard errors of 100,000 draws."""
    keys = seeds.sample_keys([f"s{i}" for i in range(10_000)])
    drawn = seeds.uniform(keys, 10, 1, "noise")
    assert drawn.shape == (10_000, 10)
    assert drawn.min() > 0
    assert drawn.max() < 1
    assert abs(drawn.mean().item() - 0.5) < 4 * (1 / 12 / 1e5) ** 0.5
    assert abs(drawn.var().item() - 1 / 12) < 0.002
    correlation = torch.corrcoef(drawn.T) - torch.eye(10)
    assert correlation.abs().max() < 0.05


def test_numbers_depend_on_the_sample_and_the_stream_alone() -> None:
    keys = seeds.sample_keys(["a", "b", "c"])
    drawn = seeds.uniform(keys, 4, 7, "noise", 0)
    assert torch.equal(drawn[[2]], seeds.uniform(keys[[2]], 4, 7, "noise", 0))
    assert not torch.equal(drawn, seeds.uniform(keys, 4, 7, "noise", 1))
    assert not torch.equal(drawn, seeds.uniform(keys, 4, 8, "noise", 0))
