"""Notes on entries of a job that stand there more than once. Each is run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lotus_ray.job.schema.job import Job


def repeated_notes(job: Job) -> list[str]:
    """Return a note for each seed, method or metric that the job names again.

    The same seed again is the same cell, not one more run: no figure gets surer by it.
    """
    lists: dict[str, Sequence[Any]] = {
        "grid.seeds": job.grid.seeds,
        "grid.methods": job.grid.methods,
        "metrics": job.metrics,
    }
    return [
        f"{_text(entry)} stands {entries.count(entry)} times in {key}, and is run once"
        for key, entries in lists.items()
        for index, entry in enumerate(entries)
        if entries.index(entry) == index and entries.count(entry) > 1
    ]


def _text(entry: Any) -> str:
    return str(entry["name"]) if isinstance(entry, dict) and "name" in entry else str(entry)
