"""Facts about the machine that something ran on."""

from __future__ import annotations

import pytest
import torch

from lotus_ray.base.machine import machine_facts


def test_gpus_per_worker_are_recorded_if_they_are_a_fraction_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    cuda = torch.device("cuda")
    assert machine_facts(cuda, 1, 0.25)["resources"]["gpus_per_worker"] == 0.25
    assert "gpus_per_worker" not in machine_facts(cuda, 1, 1)["resources"]
    assert "gpus_per_worker" not in machine_facts(torch.device("cpu"), 1, 0)["resources"]
