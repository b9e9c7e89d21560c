"""The metric store: put-if-absent commits, exactly one visible row per cell.

    lotus-ray-store.json             marks a store, and holds its unique id
    rows/<cell>/<row version>.json   a row with its SHA-256; the latest version is visible
    attempts/<cell>/<attempt>/...    artifacts that rows name, and markers of attempts
    borders/<cell>/<row version>.pt  the checkpoint of a stopped cell; removed once it has a row
    probe-<seconds>-<unique>/        test objects that are removed at once
    origin.json                      the jobs, and the folders of their images
    roles/, logits/, comparisons/    files that rows share, named after their inputs
    pixels/                          decoded images that nodes of a cluster share, removed in time

First every artifact of a row is written and proven to be stored. Then the row's object is created,
which makes the row visible. Only one writer can create it. A row never changes. When the user asks
for a retry, the next row version supersedes a failed row.
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
            rows = zip(names, readers.map(self._latest, names.values()), strict=True)
            return {cell_id: row for cell_id, row in rows if row is not None}

    def row(self, cell_id: str) -> Row | None:
        """Return the visible row of a cell, or None."""
        return self._latest(self._row_names(f"rows/{cell_id}/"))

    def next_row_versions(self) -> Counter[str]:
        """Return the next row version of each cell, 0 if it has no row, in one request."""
        names = by_cell(self._row_names("rows/"))
        return Counter({cell: 1 + max(map(_row_version, group)) for cell, group in names.items()})

    def commit(
        self, attempt: Attempt, row: Row | Mapping[str, Any], artifacts: Mapping[str, bytes]
    ) -> Row:
        """Make the row of an attempt visible, its artifacts first.

        Args:
            attempt: from `begin`.
            row: of the cell. This method sets its ids, row version, attempts and artifacts.
            artifacts: contents by file name.

        Returns:
            The visible row: ours, or that of another writer who was first with this row version.

        Raises:
            StoreError: a file cannot be written, or reads back differently.
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
        """Return an artifact that a row names, after checking its digest.

        Raises:
            ArtifactDamaged: the artifact is missing, or its digest is not the row's.
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
        """Return the names of rows. Other files, such as a backup, are ignored."""
        return [name for name in self.objects.names(prefix) if _ROW_NAME.fullmatch(name)]

    def _put_artifact(self, name: str, content: bytes) -> Artifact:
        self.objects.replace_proven(name, content)  # no other attempt writes to this folder
        return Artifact(name, hashlib.sha256(content).hexdigest(), len(content))

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
