"""What a row says of where its cell ran."""

from __future__ import annotations

import pytest
import torch

from lotus_ray.base.machine import machine_facts
from lotus_ray.trial.row import resources_of


def test_a_row_keeps_the_smallest_part_of_a_gpu_of_all_attempts() -> None:
    """Other cells had a whole GPU all the time, or none."""
    whole, part = {"workers": 1}, {"workers": 1, "gpus_per_worker": 0.25}
    larger = {**part, "gpus_per_worker": 0.5}
    assert resources_of({"resources": whole}, [larger, part, whole], compiled=True) == {
        **part,
        "compiled": True,
    }
    assert resources_of({"resources": whole}, [whole, whole]) == whole


def test_a_row_says_which_part_of_a_gpu_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    cuda = torch.device("cuda")
    assert machine_facts(cuda, 1, 0.25)["resources"]["gpus_per_worker"] == 0.25
    assert "gpus_per_worker" not in machine_facts(cuda, 1, 1)["resources"]
    assert "gpus_per_worker" not in machine_facts(torch.device("cpu"), 1, 0)["resources"]
