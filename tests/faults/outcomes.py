"""What a grid that was disturbed has to have in common with one that was not."""

from __future__ import annotations

from pathlib import Path

from lotus_ray.store.results import Store
from lotus_ray.store.row import Row


def by_method(store: Path) -> dict[str, Row]:
    return {row.method: row for row in Store.open(str(store)).rows().values()}


def results(store: Path) -> dict[str, tuple[object, ...]]:
    """Return what must be equal: status, metrics and the digest of every artifact."""
    return {
        method: (
            row.status,
            row.metrics,
            {name: artifact.sha256 for name, artifact in row.artifacts.items()},
        )
        for method, row in by_method(store).items()
    }


def row_files(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.glob("rows/*/[0-9]*.json")}
