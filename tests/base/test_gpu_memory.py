"""What a process may take of a GPU, by hand: no GPU is needed to count."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lotus_ray.base import memory
from lotus_ray.base.memory import CONTEXT_BYTES


def test_a_process_is_kept_to_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four workers each may hold a quarter of the 90 % that is used, less its context of 1 %."""
    kept: list[float] = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, device: kept.append(part)
    )
    gpu = SimpleNamespace(total_memory=100 * CONTEXT_BYTES)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for device, gpus in ((cuda, 0.25), (cuda, 1), (cuda, 2), (cpu, 0), (cpu, 0.25), (cuda, 0.01)):
        memory.limit_gpu_memory(device, gpus)
    assert kept == [pytest.approx(0.215), 0.0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("full"), True),
        (torch.cuda.OutOfMemoryError("full"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert memory.is_out_of_memory(error) is expected
