"""Print each line of Ray's C++ once, however often it says it."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_HEAD = re.compile(rb"^\[[^\]]*\]\s*(?:\[[^\]]*\]\s*)?")  # time, level and process of a line


@contextmanager
def repeats_once(descriptor: int = 2) -> Iterator[None]:
    """Let lines that this process writes within the block appear once, but for their time.

    Ray's C++ writes past Python's streams, so the descriptor itself is led through a pipe. No
    process must begin within the block: it would hold the pipe.

    Args:
        descriptor: of the stream, by default stderr.
    """
    kept = os.dup(descriptor)
    outlet, inlet = os.pipe()
    os.dup2(inlet, descriptor)
    os.close(inlet)
    reader = threading.Thread(target=_copy, args=(outlet, kept), daemon=True)
    reader.start()
    try:
        yield
    finally:
        os.dup2(kept, descriptor)  # closes the pipe's only inlet, which ends the reader
        reader.join()
        os.close(outlet)
        os.close(kept)


def _copy(outlet: int, kept: int) -> None:
    """Copy lines that are new; at the end say how many were not."""
    counts: Counter[bytes] = Counter()
    with os.fdopen(os.dup(outlet), "rb") as lines:
        for line in lines:
            key = _HEAD.sub(b"", line).strip()
            counts[key] += 1
            if counts[key] == 1 or not key:
                os.write(kept, line if line.endswith(b"\n") else line + b"\n")
    more = sum(count - 1 for key, count in counts.items() if key)
    if more:
        os.write(kept, f"({more} more lines that say the same)\n".encode())
