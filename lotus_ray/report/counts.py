"""How many images each role has: no difference of fewer than one of them can be measured."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import pyarrow.parquet as pq

from lotus_ray.base.errors import StoreError
from lotus_ray.base.roles import ROLES
from lotus_ray.report.entries import Entry
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.store.sealed import sealed, unsealed


class Counts:
    """Counts the roles of rows. Each table of roles in the store is read once, and many at once."""

    def __init__(self, store: Store, rows: Iterable[Row]) -> None:
        """Read the counts.

        Args:
            store: of the rows.
            rows: all that will be asked for.

        Raises:
            StoreError: the store cannot be read.
        """
        kept = {_roles(row): f"comparisons/counts-{_roles(row)}.json" for row in rows}
        contents = store.find_all(kept.values())
        read = {name: unsealed(contents.get(path, b"")) for name, path in kept.items()}
        self._known: dict[str, dict[str, int]] = {
            name: counts or {} for name, counts in read.items()
        }
        tables = {name: f"roles/{name}.parquet" for name, counts in read.items() if counts is None}
        contents = store.find_all(tables.values())
        for name, path in tables.items():
            if counts := _count(contents.get(path, b"")):
                self._known[name] = counts
                with suppress(StoreError):  # a report also works without permission to write
                    store.put(kept[name], sealed(counts))

    def add(self, entry: Entry, row: Row) -> None:
        """Let an entry have the number of images of each role, the fewest of its seeds."""
        for role, count in self._known[_roles(row)].items():
            entry.samples[role] = min(count, entry.samples.get(role, count))


def _roles(row: Row) -> str:
    return str(row.spec.get("roles", ""))


def _count(table: bytes) -> dict[str, int]:
    """Return the images by role; none where the table is missing or torn."""
    try:
        roles = pq.read_table(io.BytesIO(table), columns=["role"])["role"]
    except (OSError, ValueError, KeyError):
        return {}
    counted = Counter({each["values"]: each["counts"] for each in roles.value_counts().to_pylist()})
    return {role: counted[role] for role in ROLES}
