"""Let SIGTERM end a command like Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
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


def leave_at_next_signal() -> None:
    """Let another signal end this command at once: all is said, and the rest is tidying up.

    Ray's processes end by themselves when this one is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, _: leave_at_once(128 + number))


def leave_at_once(code: int) -> None:
    """Exit without tidying up, which may take longer than Ray or a person waits."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the signal may have come within a write
            stream.flush()
    os._exit(code)
