"""Wait for a row that another machine has committed: a shared folder may show it late."""

from __future__ import annotations

import time

from lotus_ray.base.errors import StoreError
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

LATE_SECONDS = 120.0  # NFS keeps the list of a folder for up to a minute
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.2, 5.0  # between two looks; each is twice the last


def committed_row(store: Store, cell_id: str, row_version: int) -> Row:
    """Return a row that is known to be committed, once it shows here.

    Args:
        store: of the row.
        cell_id: of the cell.
        row_version: of the row; a newer one will do.

    Raises:
        StoreError: it does not show for LATE_SECONDS, or the store cannot be read.
    """
    end, pause = time.monotonic() + LATE_SECONDS, FIRST_PAUSE_SECONDS
    while (row := store.row(cell_id)) is None or row.row_version < row_version:
        if time.monotonic() >= end:
            raise StoreError(
                f"a row that was committed does not show here for {LATE_SECONDS:.0f} s",
                where=f"{store.uri} cell {cell_id}",
                next_command="run the same command again: committed cells are kept",
            )
        time.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE_SECONDS)
    return row
