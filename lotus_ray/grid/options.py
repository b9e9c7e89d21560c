"""Options of running a grid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options of running a grid."""

    local: bool = False  # in this process, without Ray
    limit: int | None = None  # samples of each role
    retry_failed: bool = False  # run failed cells again
    force: bool = False  # run every cell again
