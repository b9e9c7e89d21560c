"""Two that do the same at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def race(work: Callable[[int], Any]) -> list[Any]:
    """Let two threads do the same at the same time."""
    start = threading.Barrier(2)

    def one(number: int) -> Any:
        start.wait(timeout=10)
        return work(number)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))
