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
    command = [sys.executable, "-m", "lotus_ray", "grid", str(JOB), "--store", str(tmp_path)]
    long = ["--set", "grid.models.0.train.epochs=100000", "--set", "grid.methods=[original, gold]"]
    driver = subprocess.Popen(
        [*command, "--local", *long],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + PATIENCE
        while not list(tmp_path.glob("attempts/*/*/begun.json")):
            assert driver.poll() is None, "it ended too early"
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.05)
        driver.send_signal(number)
        stdout, stderr = driver.communicate(timeout=PATIENCE)
    finally:
        driver.kill()
    assert driver.returncode == exits, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"]) == ("interrupted", None)
    assert (outcome["done"], outcome["cells"]) == (0, 2)


IGNORING = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from lotus_ray.cli.main import main
from lotus_ray.grid import local
local.run_groups = lambda *_: signal.raise_signal(signal.SIGINT) or 1
main(sys.argv[1:])
"""


def test_a_command_that_was_started_with_sigint_ignored_keeps_ignoring_it(tmp_path: Path) -> None:
    """As `nohup lotus-ray grid … &` in a script does: it runs to its end."""
    arguments = ["grid", str(JOB), "--store", str(tmp_path), "--local", "--limit", "20"]
    ended = subprocess.run(
        [sys.executable, "-c", IGNORING, *arguments, "--set", "grid.methods=[original]"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 4, ended.stderr
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["done"]) == ("ended", 0)
