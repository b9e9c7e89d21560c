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


class Counts:
    """Counts the roles of rows. Each table of roles in the store is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[str, int]] = {}

    def add(self, entry: Entry, row: Row) -> None:
        """Let an entry have the number of images of each role, the fewest of its seeds."""
        name = row.spec.get("roles", "")
        if name not in self._known:
            self._known[name] = self._read(f"roles/{name}.parquet")
        for role, count in self._known[name].items():
            entry.samples[role] = min(count, entry.samples.get(role, count))

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
