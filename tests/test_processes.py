"""A test that fails or takes too long leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import subprocess, time
from pathlib import Path

import pytest

def start(name):
    loose = "(sleep 1000 & echo $! >{0}.orphan); echo $$ >{0}; exec sleep 1000".format(name)
    process = subprocess.Popen(["sh", "-c", loose], start_new_session=True)
    while not (Path(name).exists() and Path(name).read_text()):
        time.sleep(0.01)
    return process

@pytest.fixture(scope="module")
def kept():
    process = start("kept")
    yield
    assert process.poll() is None
    process.kill()
    process.wait()

@pytest.mark.timeout(1)
def test_that_hangs(kept):
    start("hangs").wait()

def test_that_fails(kept):
    process = start("fails")
    assert process.wait(0)
"""


def is_running(file: Path) -> bool:
    stat = Path("/proc", file.read_text().strip(), "stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_failed_test_leaves_no_process_behind(tmp_path: Path) -> None:
    """Nor one whose parent has ended; a process of a fixture that others share goes on."""
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.processes"]
    ended = subprocess.run(
        [*command, "--rootdir=.", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 failed" in ended.stdout, ended.stdout
    assert "Timeout" in ended.stdout
    assert "error" not in ended.stdout
    assert not is_running(tmp_path / "hangs")
    assert not is_running(tmp_path / "fails")
    assert not is_running(tmp_path / "hangs.orphan")
    assert not is_running(tmp_path / "fails.orphan")
