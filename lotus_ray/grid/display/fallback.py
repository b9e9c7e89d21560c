"""A view that never ends a grid: if it raises, plain lines replace it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from lotus_ray.grid.display.choose import view_for
from lotus_ray.grid.display.state import GridState
from lotus_ray.grid.display.view import PlainLines, View


class FallbackView:
    """Shows a grid with the best view for a stream, and with plain lines if that view raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._view: View = PlainLines(stream)

    def open(self) -> None:
        """Choose the view. A live table takes over the terminal from here on."""
        try:
            self._view = view_for(self._stream)
        except Exception as error:
            self._fall_back(error)

    def say(self, event: str, lasting: str | None = None) -> None:
        """Show an event, as `View.say`."""
        self._show(lambda view: view.say(event, lasting))

    def draw(self, grid_state: GridState) -> None:
        """Show the progress of the grid."""
        self._show(lambda view: view.draw(grid_state))

    def close(self) -> None:
        """Leave the terminal in order."""
        self._show(lambda view: view.close())

    def _show(self, act: Callable[[View], None]) -> None:
        """Use the view. If it raises, use plain lines."""
        try:
            act(self._view)
        except Exception as error:
            self._fall_back(error)
            with suppress(Exception):  # plain lines fail too: nothing can be shown
                act(self._view)

    def _fall_back(self, error: Exception) -> None:
        with suppress(Exception):
            self._view.close()
        self._view = PlainLines(self._stream)
        with suppress(Exception):
            self._view.say(f"note: plain lines from here: {error!r}")
