"""How many images each role has: no difference of fewer than one of them can be measured."""

from __future__ import annotations

import io
from collections import Counter

import pyarrow.parquet as pq

from lotus_ray.base.errors import StoreError
from lotus_ray.base.roles import ROLES
from lotus_ray.report.entries import Entry
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.store.sealed import sealed, unsealed


class Counts:
    """Counts the roles of rows. Each table of roles in the store is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[str, int]] = {}

    def add(self, entry: Entry, row: Row) -> None:
        """Let an entry have the number of images of each role, the fewest of its seeds."""
        name = row.spec.get("roles", "")
        if name not in self._known:
            self._known[name] = self._of(name)
        for role, count in self._known[name].items():
            entry.samples[role] = min(count, entry.samples.get(role, count))

    def _of(self, name: str) -> dict[str, int]:
        """Return the images by role. A table may be large, so the counts are kept in the store."""
        kept = f"comparisons/counts-{name}.json"
        counts: dict[str, int] | None = None
        try:
            counts = unsealed(self._store.find(kept) or b"")
            if counts is None:
                counts = self._read(f"roles/{name}.parquet")
                if counts:
                    self._store.put(kept, sealed(counts))
        except StoreError:  # a report also works without permission to write
            pass
        return counts or {}

    def _read(self, name: str) -> dict[str, int]:
        """Return the images by role; none where the table is missing or torn."""
        try:
            content = self._store.find(name)
            if content is None:
                return {}
            roles = pq.read_table(io.BytesIO(content), columns=["role"])["role"]
        except (StoreError, OSError, ValueError, KeyError):
            return {}
        counted = Counter(
            {each["values"]: each["counts"] for each in roles.value_counts().to_pylist()}
        )
        return {role: counted[role] for role in ROLES}
