"""The metric store: put-if-absent commits, exactly one visible row a cell.

    lotus-ray-store.json                 marks a store, and tells it from every other one
    rows/<cell>/<row version>.json        a row with its own SHA-256; the latest one is visible
    attempts/<cell>/<attempt>/...        artifacts that rows name, and markers of attempts begun
    borders/<cell>/<row version>.pt       where a cell that is cut off goes on; gone with its row
    probe-<seconds>-<unique>/            whether objects can be created once; gone in a moment
    roles/, logits/, comparisons/        what rows share, named after what it is computed from

A row becomes visible only by creating its object, which succeeds for one writer alone, after every
artifact it names is written and its digest re-read. A row is never changed. A failed row is
superseded by the next row version when the user asks for a retry.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from lotus_ray.base.errors import ArtifactDamaged, StoreError
from lotus_ray.store.attempts import Attempt, Attempts, by_cell
from lotus_ray.store.files import READERS
from lotus_ray.store.row import Artifact, Row
from lotus_ray.store.sealed import sealed, unsealed

_ROW_NAME = re.compile(r"rows/[^/]+/[0-9]{4,}\.json")
_log = logging.getLogger(__name__)


class Store(Attempts):
    """Rows of cells and the artifacts they name."""

    def rows(self) -> dict[str, Row]:
        """Return the visible row of every cell that has one, by cell id."""
        names = by_cell(self._row_names("rows/"))
        with ThreadPoolExecutor(READERS) as readers:
            found = zip(names, readers.map(self._latest, names.values()), strict=True)
            return {cell_id: row for cell_id, row in found if row is not None}

    def row(self, cell_id: str) -> Row | None:
        """Return the visible row of a cell, or None."""
        return self._latest(self._row_names(f"rows/{cell_id}/"))

    def next_row_versions(self) -> Counter[str]:
        """Return the row version that a new row of each cell would have, by one list: else 0."""
        names = by_cell(self._row_names("rows/"))
        return Counter({cell: 1 + max(map(_row_version, group)) for cell, group in names.items()})

    def commit(
        self, attempt: Attempt, row: Row | Mapping[str, Any], artifacts: Mapping[str, bytes]
    ) -> Row:
        """Make the row of an attempt visible, its artifacts first.

        Args:
            attempt: from `begin`.
            row: of the cell; its ids, row version, attempts and artifacts are set here.
            artifacts: contents by file name.

        Returns:
            The visible row: ours, or that of another writer who was first with this row version.

        Raises:
            StoreError: something cannot be written, or reads back differently.
        """
        row = replace(
            row if isinstance(row, Row) else Row.from_json(row),
            cell_id=attempt.cell_id,
            attempt_id=attempt.attempt_id,
            row_version=attempt.row_version,
            attempts=self.attempts(attempt.cell_id),
            artifacts={
                name: self._put_artifact(f"{attempt.folder}/{name}", content)
                for name, content in artifacts.items()
            },
        )
        self.objects.create(_row_name(attempt.cell_id, attempt.row_version), sealed(row.to_json()))
        visible = self.row(attempt.cell_id)
        if visible is None:
            raise StoreError("a committed row cannot be read back", where=self.uri)
        return visible

    def artifact(self, row: Row, name: str) -> bytes:
        """Return an artifact that a row names, its digest checked.

        Raises:
            ArtifactDamaged: it is missing or differs from what the row says.
        """
        entry = row.artifacts[name]
        try:
            content = self.objects.read(entry.name)
        except FileNotFoundError as error:
            raise ArtifactDamaged(
                f"an artifact of a committed row cannot be read: {error.strerror}",
                where=self.address(entry.name),
                next_command="lotus-ray grid JOB.yaml --force",
            ) from error
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ArtifactDamaged(
                "an artifact of a committed row changed since it was written",
                where=self.address(entry.name),
                next_command="lotus-ray grid JOB.yaml --force",
            )
        return content

    def _row_names(self, prefix: str) -> list[str]:
        """Return the names of rows; whatever else lies there, such as a backup, is passed over."""
        return [name for name in self.objects.names(prefix) if _ROW_NAME.fullmatch(name)]

    def _put_artifact(self, name: str, content: bytes) -> Artifact:
        self.objects.replace(name, content)  # an attempt has its folder for itself
        digest = hashlib.sha256(content).hexdigest()
        if hashlib.sha256(self.objects.read(name)).hexdigest() != digest:
            raise StoreError("an artifact reads back differently", where=self.address(name))
        return Artifact(name, digest, len(content))

    def _latest(self, names: Iterable[str]) -> Row | None:
        for name in sorted(names, key=_row_version, reverse=True):
            content = unsealed(self.objects.read(name))
            if content is not None:
                return Row.from_json(content, where=self.address(name))
            _log.warning("%s does not match its digest and is ignored", self.address(name))
        return None


def _row_name(cell_id: str, row_version: int) -> str:
    return f"rows/{cell_id}/{row_version:04d}.json"


def _row_version(name: str) -> int:
    return int(name.rsplit("/", 1)[1].removesuffix(".json"))
