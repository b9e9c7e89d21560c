"""Let SIGTERM end a command like Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_received = int(signal.SIGINT)


def received() -> int:
    """Return the number of the signal that ended this command."""
    return _received


def received_name() -> str:
    """Return the name of the signal that ended this command: SIGINT or SIGTERM."""
    return signal.Signals(_received).name


def stop_on_sigterm() -> None:
    """Let SIGTERM end this command like Ctrl-C.

    Ray's blocking calls pass on KeyboardInterrupt, and no other interruption.
    """
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
    raise KeyboardInterrupt


def leave_at_once(code: int) -> None:
    """Exit without tidying up: Ray kills a stopped job after 3 s, and Python takes longer."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
