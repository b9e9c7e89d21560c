"""Progress of a grid as a table that is redrawn in place on a terminal."""

from __future__ import annotations

import sys
import threading
from typing import Any, TextIO

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.live import Live
from rich.text import Text

from lotus_ray.grid.display.state import GridState
from lotus_ray.grid.display.table import clean, grid_table


class LiveTable:
    """One line for each group, redrawn in place. Lines that must stay are printed above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # The watching thread draws. It makes the table before it takes rich's lock. So other
        # threads that print neither fail nor wait because of the table.
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._stand_ins = {
            name: _Above(console, stream) for name, stream in streams.items() if stream.isatty()
        }
        self._live.start()
        for name, stand_in in self._stand_ins.items():
            setattr(sys, name, stand_in)

    @classmethod
    def on(cls, stream: TextIO) -> LiveTable | None:
        """Return a table on a terminal, or None if the environment tells rich not to redraw."""
        console = Console(file=stream)
        return cls(console) if console.is_interactive else None

    def say(self, event: str, lasting: str | None = None) -> None:
        """Print a lasting line above the table. Other events show in the table itself."""
        if lasting is not None:
            self._console.print(Text(clean(lasting), "" if lasting.startswith("note:") else "red"))

    def draw(self, grid_state: GridState) -> None:
        """Draw the table again, in the terminal's present size."""
        width, height = self._console.size
        self._live.update(grid_table(grid_state, width, height), refresh=True)

    def close(self) -> None:
        """Leave the table as it is, with the cursor below it."""
        try:
            for name, stand_in in self._stand_ins.items():
                if getattr(sys, name) is stand_in:
                    setattr(sys, name, stand_in.stream)
                stand_in.step_aside()
        finally:
            self._live.stop()


class _Above:
    """Replaces a stream of this process: complete lines appear above the table.

    If carriage returns overwrite a line, as those of a download do, only its last text appears.
    """

    def __init__(self, console: Console, stream: TextIO) -> None:
        self.stream = stream
        self._console: Console | None = console
        self._decoder = AnsiDecoder()
        self._rest = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Print the lines that are complete now."""
        console = self._console
        if console is None:
            return self.stream.write(text)
        with self._lock:
            *lines, rest = (self._rest + text).split("\n")
            self._rest = rest if rest.endswith("\r") else rest.rpartition("\r")[2]
        for line in lines:
            self._print(console, line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: part of a line would break the table."""

    def step_aside(self) -> None:
        """Print the rest; from now on, pass text on to the stream."""
        console, self._console = self._console, None
        if console is not None and self._rest:
            self._print(console, self._rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _print(self, console: Console, line: str) -> None:
        try:
            console.print(self._decoder.decode_line(line.rstrip("\r")))
        except Exception:  # printing must not fail because of the table
            self.stream.write(line + "\n")
