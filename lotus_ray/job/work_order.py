"""What is to be done: a group, which of its cells are missing, and with what room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lotus_ray.base.errors import DataError, StoreError
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.prepared.embedded import fetch
from lotus_ray.data.roles.assign import Roles
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.store.results import Store


@dataclass(frozen=True)
class WorkOrder:
    """A group, and the row version of row that each of its missing cells is to commit."""

    group: CellGroup
    row_versions: Mapping[str, int]  # by cell id; a cell that is not here is settled
    store: str
    checkpoint_seconds: float = 60  # between two checkpoints that are kept
    cache_space: CacheSpace = field(default_factory=CacheSpace)  # for decoded images, on each node
    max_bad_images: int = 0  # that are left out because they cannot be decoded
    mark: str = ""  # of the store; empty is any
    compile: bool = False  # networks that train

    @property
    def missing_cells(self) -> list[Cell]:
        """Return the cells of the group that have a row version to commit, in the group's order."""
        return [cell for cell in self.group.cells if cell.cell_id in self.row_versions]

    def is_settled(self, cell: Cell, store: Store) -> bool:
        """Return whether nothing is left to do for a cell."""
        if cell.cell_id not in self.row_versions:
            return True
        row = store.row(cell.cell_id)
        return row is not None and row.row_version >= self.row_versions[cell.cell_id]


def ensure_access(work_order: WorkOrder) -> None:
    """Make sure that this node sees the store of a group, and copy what the group needs of it here.

    A node that comes late, as of a cluster that grows, is asked nowhere else.

    Raises:
        StoreError: it sees none, or another one; or a copy cannot be made.
    """
    store = Store.open(work_order.store)
    if work_order.mark and (why := store.access_error(work_order.mark)):
        raise unreached(store, f"a node that was to run a group does not reach the store: {why}")
    fetch(store, work_order.group.manifests)


def unreached(store: Store, what: str) -> StoreError:
    """Return the error for a store that some node does not reach."""
    return StoreError(
        what,
        where=store.location,
        nearest="a folder that every node mounts, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
        next_command="lotus-ray grid JOB.yaml --store s3://BUCKET/PREFIX",
    )


def load_roles(work_order: WorkOrder) -> Roles:
    """Read the table of roles of a group from the store.

    Raises:
        DataError: it is not the one that the group was planned with.
    """
    store, name = Store.open(work_order.store), work_order.group.roles_name
    content = store.find(name)
    if content is None:
        raise _no_roles(store, name, "is gone")
    try:
        roles = Roles.from_parquet(content)
        whole = roles.digest == work_order.group.roles_digest
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _no_roles(store, name, "is torn, or changed since it was written") from error
    if not whole:
        raise _no_roles(store, name, "changed since it was written")
    return roles


def _no_roles(store: Store, name: str, what: str) -> DataError:
    return DataError(
        f"the table of roles {what}",
        where=store.address(name),
        next_command="run the same command again: it writes the table anew",
    )
