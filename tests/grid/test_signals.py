"""What a signal makes of a command: its exit code, and its outcome file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
IN_JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}  # as Ray's source has it, in and out of quotes
PATIENCE = 120  # seconds


@pytest.mark.parametrize(
    ("environment", "number", "exits"),
    [
        ({}, signal.SIGINT, 130),
        ({}, signal.SIGTERM, 143),
        (IN_JOB, signal.SIGTERM, 75),
        (IN_JOB, signal.SIGINT, 75),  # which RAY_JOB_STOP_SIGNAL can ask for
    ],
)
def test_a_signal_ends_the_command_and_its_outcome_says_so(
    environment: dict[str, str], number: int, exits: int, tmp_path: Path
) -> None:
    """While the first of two cells trains for hours."""
    code = "from lotus_ray.cli.main import main; main()"
    job = [str(JOB), "--store", str(tmp_path), "--local"]
    long = ["--set", "grid.models.0.train.epochs=100000", "--set", "grid.methods=[original, gold]"]
    driver = subprocess.Popen(
        [sys.executable, "-c", code, "grid", *job, *long],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + PATIENCE
    while not list(tmp_path.glob("attempts/*/*/begun.json")):
        assert driver.poll() is None, "it ended too early"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    driver.send_signal(number)
    stdout, stderr = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == exits, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"]) == ("interrupted", None)
    assert (outcome["done"], outcome["cells"]) == (0, 2)
