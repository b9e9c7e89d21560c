"""The live table on a terminal: what stays above it, and in what state it leaves the terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from lotus_ray.grid.display.live import LiveTable
from lotus_ray.grid.display.state import GridState
from tests.cli.test_cli import DIGITS, QUICK, options
from tests.grid.test_table import BUSY, THROUGH

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[[0-9;]*?\b(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def plain(said: str) -> str:
    """Leave out what a terminal obeys; a line that is written over counts as another line."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.replace("\r\x1b[2K", "\n")).replace("\r", "")


def start(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, LiveTable]:
    """Make a terminal of 80 columns stdout and stderr of this process, and draw a table on it."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    live = LiveTable(
        Console(file=stream, width=80, height=24, force_terminal=True, force_interactive=True)
    )
    live.draw(GridState([BUSY], 75.0))
    return stream, live


def test_failures_and_notes_stay_above_the_table_and_events_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, live = start(monkeypatch)
    live.say("a, X: done; 1/3 cells")
    live.say("b, [red]X: diverged; 2/3 cells", "b, [red]X: diverged: loss\x1b[2J became nan")
    live.say("note: one", "note: one")
    live.draw(GridState([THROUGH], 80.0))
    live.close()
    said = terminal.getvalue()
    assert "a, X" not in said
    assert "\x1b[31mb, [red]X: diverged: loss[2J became nan\x1b[0m\n" in said
    assert "\nnote: one\n" in plain(said)
    assert plain(said).endswith("\n4/4 cells, 1:20 elapsed\n")
    assert said.index(HIDE) < said.rindex("4/4") < said.rindex(SHOW)


def test_what_others_print_appears_above_the_table_in_whole_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, live = start(monkeypatch)
    print("(raylet) [bold]WAR", end="", file=sys.stderr, flush=True)
    assert "raylet" not in terminal.getvalue()
    print("NING\x1b[2J", file=sys.stderr)
    assert "\n(raylet) [bold]WARNING\n" in plain(terminal.getvalue())
    for percent in range(100):
        print(f"\r{percent} %", end="", file=sys.stderr, flush=True)
    print("left over", end="")
    kept = sys.stderr
    live.close()
    print("later", file=kept)
    said = plain(terminal.getvalue())
    assert "98 %" not in said
    assert "99 %" in said
    assert "left over" in said
    assert said.endswith("elapsed\nlater\n")
    assert (sys.stdout, sys.stderr) == (terminal, terminal)


def test_a_pipe_beside_the_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    live = LiveTable(Console(file=terminal, force_terminal=True, force_interactive=True))
    print("data")
    live.close()
    assert pipe.getvalue() == "data\n"
    assert "data" not in terminal.getvalue()


class Run:
    """A command on a terminal of 24 lines and 100 columns, and what it has said so far."""

    def __init__(self, *command: object, **environment: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        left_out = ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        inherited = {name: value for name, value in os.environ.items() if name not in left_out}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )
        os.close(theirs)
        self.said = ""
        self._terminal = ours
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while content := os.read(self._terminal, 65536):
                self.said += content.decode(errors="replace")
        except OSError:  # how Linux says that the other end is closed
            pass

    def wait_for(self, text: str) -> None:
        """Wait until it has been said."""
        end = time.monotonic() + 120
        while text not in self.said and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert text in self.said, self.said

    def end(self) -> int:
        """Return the exit code."""
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._thread.join(10)
            os.close(self._terminal)


CLI = "from lotus_ray.cli.main import main; main()"
GRID = ("grid", DIGITS, "--local", "--limit", "20", *options(QUICK))


def test_a_grid_on_a_terminal(tmp_path: Path) -> None:
    """Finetuning diverges. Colours are off, as NO_COLOR says."""
    diverging = options({"grid.methods.2": "{name: finetune, epochs: 2, lr: 1.0e+30}"})
    run = Run("-c", CLI, *GRID, *diverging, "--store", tmp_path, NO_COLOR="1")
    assert run.end() == 4, run.said
    assert not COLOUR.search(run.said)
    assert run.said.count(HIDE) == run.said.count(SHOW) == 1
    assert run.said.index(HIDE) < run.said.index(SHOW)
    assert run.said.count("\x1b[1A") > 4  # drawn in place, again and again
    lines = plain(run.said).splitlines()
    failure = re.compile(r" s  Finetuning, digits ResNet18 seed 3407: diverged: loss became")
    assert sum(failure.search(line) is not None for line in lines) == 1
    assert not any("LoTUS, digits ResNet18 seed 3407: " in line for line in lines)
    last = [line for line in lines if line.startswith("digits ResNet18 instance")][-1]
    assert re.search(r"  3407  4/4, 1 failed  done +[A-Z].* [0-9.]+ s +$", last)
    assert lines[-1] == f"DONE 3/4 cells, 1 failed: {tmp_path}/outcome.json"


def test_a_signal_leaves_the_terminal_in_order(tmp_path: Path) -> None:
    waiting = (
        "import time, lotus_ray.grid.local as local; local.run_cells = lambda *_: time.sleep(60);"
        + CLI
    )
    runs = {
        number: Run("-c", waiting, *GRID, "--store", tmp_path / number.name)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        for number, run in runs.items():
            run.wait_for("waiting")
            run.process.send_signal(number)
            assert run.end() == 128 + number, run.said
            assert run.said.index(HIDE) < run.said.index(SHOW)
            assert run.said.rindex(SHOW) > run.said.rindex("0/4 cells")
            assert "Traceback" not in run.said
    finally:
        for run in runs.values():
            run.process.kill()
