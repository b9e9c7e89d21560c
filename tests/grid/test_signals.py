"""What a signal makes of a command: its exit code, and its outcome file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.grid.local import run_cells
from lotus_ray.grid.options import Options
from lotus_ray.grid.run import run_grid
from lotus_ray.grid.watch import GridWatch
from lotus_ray.job.load import load_job
from lotus_ray.job.schema.resources import Resources
from lotus_ray.store.results import Store
from tests.forkserver import FORKSERVER

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
IN_JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}  # as Ray's source has it, in and out of quotes
TIMEOUT = 120  # seconds


def _grid(environment: dict[str, str], folder: str) -> None:
    """Run a grid whose first cell trains for hours; stdout and stderr go to files."""
    for stream, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY), stream)
    os.environ.update(environment)
    from lotus_ray.cli.main import main

    long = ["--set", "grid.models.0.train.epochs=100000", "--set", "grid.methods=[original, gold]"]
    main(["grid", str(JOB), "--store", f"{folder}/store", "--local", *long])


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
    """While the first of two cells trains."""
    driver = FORKSERVER.Process(target=_grid, args=(environment, str(tmp_path)))
    driver.start()
    try:
        end = time.monotonic() + TIMEOUT
        while not list(tmp_path.glob("store/attempts/*/*/begun.json")):
            assert driver.is_alive(), "it ended too early"
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.05)
        assert driver.pid is not None
        os.kill(driver.pid, number)
        driver.join(TIMEOUT)
    finally:
        driver.kill()
    stderr = (tmp_path / "stderr").read_text()
    assert driver.exitcode == exits, stderr
    assert (tmp_path / "stdout").read_text() == ""
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("interrupted: 0 of 2 cells are kept")
    outcome = json.loads((tmp_path / "store" / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"]) == ("interrupted", None)
    assert (outcome["done"], outcome["cells"]) == (0, 2)


def _stopped_while_planning(number: int, folder: str) -> None:
    """Run a grid that gets a signal before any cell is known; stderr goes to a file."""
    os.dup2(os.open(f"{folder}/stderr", os.O_CREAT | os.O_WRONLY), 2)
    from lotus_ray.cli.main import main
    from lotus_ray.grid import run

    run.plan_grid = lambda *_: signal.raise_signal(number)  # type: ignore[attr-defined]
    main(["grid", str(JOB), "--store", f"{folder}/store", "--local"])


@pytest.mark.parametrize(("number", "exits"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_cell_is_said(number: int, exits: int, tmp_path: Path) -> None:
    driver = FORKSERVER.Process(target=_stopped_while_planning, args=(number, str(tmp_path)))
    driver.start()
    driver.join(TIMEOUT)
    assert driver.exitcode == exits
    assert (tmp_path / "stderr").read_text().splitlines()[-1] == (
        f"{signal.Signals(number).name}: stopped; nothing that was finished is lost, and the same "
        "command goes on"
    )


IGNORING = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from lotus_ray.cli.main import main
from lotus_ray.grid import local
from lotus_ray.job.spans import Filling
local.run_cells = lambda *_: signal.raise_signal(signal.SIGINT) or Filling(1, [])
main(sys.argv[1:])
"""


IMPATIENT = """
import atexit, signal, sys
from lotus_ray.cli.main import main
from lotus_ray.grid import run

def stopped(*_):
    try:
        interrupt = KeyboardInterrupt()
        interrupt.add_note("it was said")
        raise interrupt
    finally:
        signal.raise_signal(signal.SIGINT)

run.run_grid = stopped
atexit.register(lambda: signal.raise_signal(int(sys.argv.pop())))
main(sys.argv[1:-1])
"""


@pytest.mark.parametrize(("number", "exits"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_more_signals_while_a_command_tidies_up_show_no_traceback(
    number: int, exits: int, tmp_path: Path
) -> None:
    """Ctrl-C three times: in a cell, while Ray is left, and while Python ends."""
    arguments = ["grid", str(JOB), "--store", str(tmp_path / "store"), "--local"]
    ended = subprocess.run(
        [sys.executable, "-c", IMPATIENT, *arguments, str(int(number))],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == exits, ended.stderr
    assert ended.stderr.splitlines()[1:] == []


def test_a_command_that_was_started_with_sigint_ignored_keeps_ignoring_it(tmp_path: Path) -> None:
    """As `nohup lotus-ray grid … &` in a script does: it runs to its end."""
    arguments = ["grid", str(JOB), "--store", str(tmp_path), "--local", "--limit", "20"]
    ended = subprocess.run(
        [sys.executable, "-c", IGNORING, *arguments, "--set", "grid.methods=[original]"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 4, ended.stderr
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["done"]) == ("ended", 0)


def test_ctrl_c_on_a_full_disk_is_still_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The outcome cannot be written any more; what is kept is counted and said all the same."""
    short = ("model.train.epochs=1", "model.train.warmup_epochs=0")
    loaded, store = (
        load_job(JOB, ("grid.methods=[original, gold]", *short)),
        Store.open(str(tmp_path / "store")),
    )
    options = Options(local=True, limit=40, retry_failed=False, force=False)
    replace, is_full = Store.replace, False

    def full(store: Store, name: str, content: bytes) -> None:
        if is_full:
            raise StoreError("No space left on device", where=name)
        replace(store, name, content)

    def stopped(*arguments: Any) -> None:
        nonlocal is_full
        run_one(*arguments[:4])
        is_full = True
        arguments[-1]()  # as the cluster does when a signal comes
        raise KeyboardInterrupt

    def run_one(_: object, work_orders: Any, seconds: Any, watch: GridWatch) -> None:
        (group,) = work_orders
        versions = {group.group.original.cell_id: 0}
        run_cells([replace_fields(group, row_versions=versions)], Resources(), seconds, watch.say)

    monkeypatch.setattr(Store, "replace", full)
    monkeypatch.setattr("lotus_ray.grid.run._Runner.run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_grid(loaded, store, options)
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted: 1 of 2 cells are kept")
