"""How to run a grid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How to run a grid."""

    local: bool = False
    limit: int | None = None
    retry_failed: bool = False
    force: bool = False
