"""The benchmark as a user runs it, on few photographs: every figure is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench


def test_bench_data_measures_the_scoreboard() -> None:
    code = "from lotus_ray.cli import main; main()"
    arguments = ["bench", "data", "--images", "64", "--repeats", "1", "--json"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert set(found) == {"C1", "C2", "C3", "C5", "C10", "machine", "rates"}
    assert found["C10"]["value"] == 1.0
    assert all(rate > 0 for rate in found["rates"].values())
    assert found["C2"]["value"] == pytest.approx(
        found["rates"]["Ray stage, fast decoder"] / found["rates"]["DataLoader, 2 workers"]
    )
