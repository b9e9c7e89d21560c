"""The benchmark as a user runs it, on few photographs: every figure is there."""

from __future__ import annotations

import pytest

from tests.bench.command import bench

pytestmark = pytest.mark.bench


def test_bench_data_measures_the_scoreboard() -> None:
    found, _ = bench("data", "--images", "64")
    assert set(found) == {"C1", "C2", "C3", "C5", "C10", "machine", "rates"}
    assert found["C10"]["value"] == 1.0
    assert all(rate > 0 for rate in found["rates"].values())
    assert found["C2"]["value"] == pytest.approx(
        found["rates"]["Ray stage, fast decoder"] / found["rates"]["DataLoader, 2 workers"]
    )
