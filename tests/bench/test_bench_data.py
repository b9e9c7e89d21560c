"""The benchmark as a user runs it, on few photographs: every figure is there."""

from __future__ import annotations

import pytest

from tests.bench.command import bench

pytestmark = pytest.mark.bench
NAMES = ("_vs_bare_loop", "_vs_dataloader", "_per_image")


def test_bench_data_measures_the_scoreboard() -> None:
    found, _ = bench("data", "--images", "64")
    old = {"C1", "C2", "C3", "C5", "C10", "D2"}
    assert {each["id"] for key, each in found.items() if key.endswith(NAMES)} == old
    assert found.keys() >= {*old, "machine", "rates"}
    assert found["decodes_per_image"] == found["C10"]
    assert found["decodes_per_image"]["value"] == 1.0
    assert found["decodes_over_two_nodes"]["value"] == 1.0
    assert found["bytes_read_vs_needed"]["ok"]
    assert 0.01 < found["requests_per_image"]["value"] < 1
    assert all(rate > 0 for rate in found["rates"].values())
    assert found["cold_rate_vs_dataloader"]["value"] == pytest.approx(
        found["rates"]["Ray stage, fast decoder"] / found["rates"]["DataLoader, 2 workers"]
    )
