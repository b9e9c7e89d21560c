"""Views of a grid's progress: plain lines here, a table on a terminal in `live`."""

from __future__ import annotations

from typing import Protocol, TextIO

from lotus_ray.grid.display.state import GridState


class View(Protocol):
    """Shows a grid to people. If it raises, it is replaced, and the grid goes on."""

    def say(self, event: str, lasting: str | None = None) -> None:
        """Show an event. `lasting` is its text if it must stay on the screen, such as a failure."""

    def draw(self, grid_state: GridState) -> None:
        """Show the progress of the grid."""

    def close(self) -> None:
        """Leave the terminal in order."""


class PlainLines:
    """One plain line per event, for pipes, logs and terminals that can only append."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, event: str, lasting: str | None = None) -> None:
        """Write a line."""
        self._stream.write(event + "\n")
        self._stream.flush()

    def draw(self, grid_state: GridState) -> None:
        """Do nothing: lines cannot be drawn again."""

    def close(self) -> None:
        """Do nothing."""
