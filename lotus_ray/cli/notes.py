"""Notes of commands: one line each, on stderr."""

from __future__ import annotations

from collections.abc import Iterable

import click


def print_notes(notes: Iterable[str]) -> None:
    """Print lines that need no action."""
    for note in notes:
        click.echo(f"note: {note}", err=True)
