"""The table of roles: the role of each sample."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.base.roles import (
    STORED,
)


@dataclass(frozen=True)
class Roles:
    """The table of roles, sorted by sample id. Everywhere, `row` is an index into this table."""

    sample_ids: list[str]
    labels: np.ndarray  # [N], int64
    roles: np.ndarray  # [N], int8: index into STORED
    num_classes: int

    def __len__(self) -> int:
        return len(self.sample_ids)

    def indices(self, *roles: str) -> np.ndarray:
        """Return the indices, int64 [n], of the samples with any of `roles`."""
        return np.flatnonzero(np.isin(self.roles, [STORED.index(role) for role in roles]))

    def without(self, sample_ids: Collection[str]) -> Roles:
        """Return the table without some samples."""
        kept = [row for row, name in enumerate(self.sample_ids) if name not in sample_ids]
        names = [self.sample_ids[row] for row in kept]
        return Roles(names, self.labels[kept], self.roles[kept], self.num_classes)

    @property
    def digest(self) -> str:
        """SHA-256 of ids, labels and roles, in hexadecimal."""
        content = hashlib.sha256("\n".join(self.sample_ids).encode())
        content.update(self.labels.astype("<i8").tobytes() + self.roles.astype("<i1").tobytes())
        return content.hexdigest()

    def to_parquet(self) -> bytes:
        """Return the content of a Parquet file with the table: sample_id, label, role."""
        table = pa.table(
            {
                "sample_id": self.sample_ids,
                "label": self.labels,
                "role": [STORED[role] for role in self.roles],
            }
        )
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({"num_classes": str(self.num_classes)}), buffer
        )
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> Roles:
        """Read a table from the content of a file that `to_parquet` wrote."""
        table = pq.read_table(io.BytesIO(content))
        return cls(
            sample_ids=table["sample_id"].to_pylist(),
            labels=table["label"].to_numpy(),
            roles=np.array([STORED.index(r) for r in table["role"].to_pylist()], dtype=np.int8),
            num_classes=int(table.schema.metadata[b"num_classes"]),
        )
