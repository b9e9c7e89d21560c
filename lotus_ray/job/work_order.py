"""What is to be done: a lane, which of its cells are missing, and with what room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lotus_ray.base.errors import DataError, StoreError
from lotus_ray.data.pixels.cache_space import Room
from lotus_ray.data.prepared.embedded import fetch
from lotus_ray.data.roles.assign import Roles
from lotus_ray.job.cells import Cell, Lane
from lotus_ray.store.results import Store


@dataclass(frozen=True)
class Todo:
    """A lane, and the generation of row that each of its missing cells is to commit."""

    lane: Lane
    generations: Mapping[str, int]  # by cell id; a cell that is not here is settled
    store: str
    checkpoint_seconds: float = 60  # between two phase borders that are kept
    room: Room = field(default_factory=Room)  # for decoded images, on each node
    max_bad_images: int = 0  # that are left out because they cannot be decoded
    mark: str = ""  # of the store; empty is any
    compile: bool = False  # networks that train

    def is_settled(self, cell: Cell, store: Store) -> bool:
        """Return whether nothing is left to do for a cell."""
        if cell.cell_id not in self.generations:
            return True
        row = store.row(cell.cell_id)
        return row is not None and row["generation"] >= self.generations[cell.cell_id]


def reach(todo: Todo) -> None:
    """Make sure that this node sees the store of a lane, and copy what the lane needs of it here.

    A node that comes late, as of a cluster that grows, is asked nowhere else.

    Raises:
        StoreError: it sees none, or another one; or a copy cannot be made.
    """
    store = Store.open(todo.store)
    if todo.mark and (why := store.hindrance(todo.mark)):
        raise unreached(store, f"a node that was to run a lane does not reach the store: {why}")
    fetch(store, todo.lane.manifests)


def unreached(store: Store, what: str) -> StoreError:
    """Return the error for a store that some node does not reach."""
    return StoreError(
        what,
        where=store.location,
        nearest="a folder that every node mounts, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
        next_command="lotus-ray grid JOB.yaml --store s3://BUCKET/PREFIX",
    )


def load_roles(todo: Todo) -> Roles:
    """Read the table of roles of a lane from the store.

    Raises:
        DataError: it is not the one that the lane was planned with.
    """
    store, name = Store.open(todo.store), todo.lane.roles_name
    content = store.find(name)
    if content is None:
        raise _no_roles(store, name, "is gone")
    try:
        roles = Roles.from_parquet(content)
        whole = roles.digest == todo.lane.roles_digest
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
