"""Read the inputs of a trial from the store before it starts."""

from __future__ import annotations

import pyarrow as pa

from lotus_ray.base.errors import DataError, StoreError
from lotus_ray.data.prepared.embedded import fetch
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store


def ensure_access(work_order: WorkOrder) -> None:
    """Check that this node sees the store, and copy the group's data from it.

    For nodes that join a growing cluster late, this is the only check.

    Raises:
        StoreError: this node sees no store or another store, or cannot copy the data.
    """
    store = Store.open(work_order.store)
    if work_order.store_id and (why := store.access_error(work_order.store_id)):
        raise store_not_shared(store, f"a node of this grid cannot use the store: {why}")
    fetch(store, work_order.group.manifests)


def store_not_shared(store: Store, what: str) -> StoreError:
    """Return the error for a store that some node cannot read.

    Args:
        store: the store.
        what: went wrong.
    """
    return StoreError(
        what,
        where=store.location,
        nearest="a folder that every node mounts, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
        next_command="lotus-ray grid JOB.yaml --store s3://BUCKET/PREFIX",
    )


def load_roles(work_order: WorkOrder) -> Roles:
    """Read the table of roles of a group from the store.

    Raises:
        DataError: the table is missing, or changed since the plan.
    """
    store, name = Store.open(work_order.store), work_order.group.roles_name
    content = store.find(name)
    if content is None:
        raise _roles_error(store, name, "is missing")
    try:
        roles = Roles.from_parquet(content)
        is_planned = roles.digest == work_order.group.roles_digest
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _roles_error(store, name, "is torn, or changed since it was written") from error
    if not is_planned:
        raise _roles_error(store, name, "changed since it was written")
    return roles


def _roles_error(store: Store, name: str, what: str) -> DataError:
    return DataError(
        f"the table of roles {what}",
        where=store.address(name),
        next_command="run the same command again: it writes the table again",
    )
