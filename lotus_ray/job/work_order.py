"""What a place needs to run cells of a group: the missing ones, and settings of the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lotus_ray.base.plugins import Reference
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.chunks import key_of
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.store.results import Store


@dataclass(frozen=True)
class WorkOrder:
    """A group, and the row version that each of its missing cells will commit."""

    group: CellGroup
    row_versions: Mapping[str, int]  # by cell id; only of missing cells
    store: str
    checkpoint_seconds: float = 60  # between two checkpoints
    cache_space: CacheSpace = field(default_factory=CacheSpace)  # for decoded images, on each node
    max_bad_images: int = 0  # most images that may be left out because they cannot be decoded
    store_id: str = ""  # unique id of the store; empty is not checked
    compile: bool = False  # compile networks that train
    micro_batch: int | None = None  # images of a part of a step on one worker; None: no parts
    micro_batch_is_auto: bool = True  # parts may be halved where memory runs out
    plugins: tuple[Reference, ...] = ()  # that its cells use; the store has their code

    @property
    def chunks_key(self) -> str:
        """The key of the decoded images of its group that nodes share."""
        manifests = [read_manifest(folder) for folder in self.group.manifests]
        return key_of(manifests, self.group.transform, self.cache_space.session)

    @property
    def missing_cells(self) -> list[Cell]:
        """The cells of the group that have no row yet, in the group's order."""
        return [cell for cell in self.group.cells if cell.cell_id in self.row_versions]

    def cell(self, cell_id: str) -> Cell:
        """Return a cell of the group by its id."""
        return next(cell for cell in self.group.cells if cell.cell_id == cell_id)

    def is_settled(self, cell: Cell, store: Store) -> bool:
        """Return True if a cell is not missing, or its row is committed."""
        if cell.cell_id not in self.row_versions:
            return True
        row = store.row(cell.cell_id)
        return row is not None and row.row_version >= self.row_versions[cell.cell_id]
