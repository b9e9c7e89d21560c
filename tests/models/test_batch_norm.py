"""Batch statistics of the global batch: two processes against one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from lotus_ray.base.errors import JobError
from lotus_ray.bench.method_checks.two_workers import join_two
from lotus_ray.models.batch_norm import CpuSyncBatchNorm2d, synchronise_batch_norm
from tests.forkserver import run_two


def _images() -> Tensor:
    return torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(2)).double() * 3 + 1


def _network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    return nn.Sequential(*layers).double()


def _step(network: nn.Module, images: Tensor) -> None:
    network.train()
    (network(images).square().sum() / 7).backward()  # type: ignore[no-untyped-call]


def _worker(rank: int, folder: str, shares: list[list[int]]) -> None:
    join_two(rank, folder)
    network = synchronise_batch_norm(_network(), torch.device("cpu"))
    _step(network, _images()[shares[rank]])
    for parameter in network.parameters():
        torch.distributed.all_reduce(parameter.grad)
    if rank == 0:
        grads = [parameter.grad for parameter in network.parameters()]
        torch.save([grads, list(network.buffers())], f"{folder}/result.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [[[0, 2, 4, 6], [1, 3, 5]], [[0, 1, 2, 3, 4, 5, 6], []]])
def test_two_workers_equal_one(tmp_path: Path, shares: list[list[int]]) -> None:
    """Four and three of seven images, or all and none: gradients and running statistics."""
    run_two(_worker, str(tmp_path), shares)
    grads, buffers = torch.load(tmp_path / "result.pt")
    alone = _network()
    _step(alone, _images())
    for found, parameter in zip(grads, alone.parameters(), strict=True):
        assert torch.allclose(found, parameter.grad, rtol=1e-12, atol=1e-13)
    for found, buffer in zip(buffers, alone.buffers(), strict=True):
        assert torch.allclose(found.double(), buffer.double(), rtol=1e-13)


def test_half_precision_activations_keep_statistics_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As under autocast; torch's own norm answers and follows alike. One worker needs no other."""
    monkeypatch.setattr("lotus_ray.models.batch_norm._gathered", lambda values: values[None])
    ours, theirs = CpuSyncBatchNorm2d(3), nn.BatchNorm2d(3)
    images = _images().bfloat16()
    given, expected = (images.clone().requires_grad_() for _ in range(2))
    answer, wanted = ours(given), theirs(expected)
    assert answer.dtype == wanted.dtype == torch.bfloat16
    assert torch.equal(answer, wanted)
    for norm, of in ((ours, answer), (theirs, wanted)):
        of.float().square().mul(torch.arange(4)).sum().backward()
        assert norm.running_var.dtype == torch.float32
    assert given.grad is not None
    assert given.grad.dtype == torch.bfloat16
    torch.testing.assert_close(given.grad, expected.grad, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_workers_exchange_once_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency over gloo is what a step of several CPU workers costs."""
    exchanged: list[int] = []

    def gathered(values: Tensor) -> Tensor:
        exchanged.append(len(values))
        return values[None]

    monkeypatch.setattr("lotus_ray.models.batch_norm._gathered", gathered)
    _step(synchronise_batch_norm(_network(), torch.device("cpu")), _images())
    assert exchanged == [1 + 2 + 2, 2 + 2]  # count, means and variances of two channels; their sums


def test_parameters_are_the_same_objects_and_eval_is_unchanged() -> None:
    network = _network().eval()
    before = list(network.parameters())
    expected = network(_images())
    converted = synchronise_batch_norm(network, torch.device("cpu"))
    assert any(isinstance(module, CpuSyncBatchNorm2d) for module in converted.modules())
    assert all(a is b for a, b in zip(before, converted.parameters(), strict=True))
    assert torch.equal(converted(_images()), expected)
    assert copy.deepcopy(converted).state_dict().keys() == _network().state_dict().keys()


def test_a_norm_that_cannot_be_shared_is_refused() -> None:
    """timm's fused norm is a subclass with an activation: converting it would lose that."""
    network = nn.Sequential(nn.Conv2d(3, 2, 3), BatchNormAct2d(2))
    with pytest.raises(JobError, match="BatchNormAct2d"):
        synchronise_batch_norm(network, torch.device("cpu"))


def test_one_value_a_channel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all workers together: a share of one is fine where another worker has one too."""
    norm = CpuSyncBatchNorm2d(3)
    monkeypatch.setattr("lotus_ray.models.batch_norm._gathered", lambda values: values[None])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.rand(1, 3, 1, 1))
    assert norm.running_var.isfinite().all()
    monkeypatch.setattr("lotus_ray.models.batch_norm._gathered", lambda v: torch.stack([v, v]))
    assert norm(torch.rand(1, 3, 1, 1)).shape == (1, 3, 1, 1)
