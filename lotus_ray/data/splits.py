"""Which sample plays which role: forget, retain, unseen or test.

Drawn within each class from (seed, sample id), so that the roles are the same on every machine
and do not depend on the order of the shards.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray import seeds
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.errors import DataError
from lotus_ray.roles import FORGET, RETAIN, ROLES, TEST, UNSEEN


@dataclass(frozen=True)
class Roles:
    """The table of roles, sorted by sample id. A sample's place in it is its `row` everywhere."""

    sample_ids: list[str]
    labels: np.ndarray  # [N], int64
    roles: np.ndarray  # [N], int8: place in ROLES
    num_classes: int

    def __len__(self) -> int:
        return len(self.sample_ids)

    def rows(self, *roles: str) -> np.ndarray:
        """Return the rows, int64 [n], that play any of `roles`."""
        return np.flatnonzero(np.isin(self.roles, [ROLES.index(role) for role in roles]))

    @property
    def digest(self) -> str:
        """Return the SHA-256 of ids, labels and roles, in hexadecimal."""
        content = hashlib.sha256("\n".join(self.sample_ids).encode())
        content.update(self.labels.astype("<i8").tobytes() + self.roles.astype("<i1").tobytes())
        return content.hexdigest()

    def to_parquet(self) -> bytes:
        """Return the table as the bytes of a Parquet file: sample_id, label, role."""
        table = pa.table(
            {
                "sample_id": self.sample_ids,
                "label": self.labels,
                "role": [ROLES[role] for role in self.roles],
            }
        )
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({"num_classes": str(self.num_classes)}), buffer
        )
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> Roles:
        """Read what `to_parquet` wrote."""
        table = pq.read_table(io.BytesIO(content))
        return cls(
            sample_ids=table["sample_id"].to_pylist(),
            labels=table["label"].to_numpy(),
            roles=np.array([ROLES.index(r) for r in table["role"].to_pylist()], dtype=np.int8),
            num_classes=int(table.schema.metadata[b"num_classes"]),
        )


def draw_roles(
    labels: pa.Table,
    num_classes: int,
    forget_fraction: float,
    seed: int,
    limit: int | None = None,
) -> Roles:
    """Draw the role of every sample.

    Of each class, round(forget_fraction · n) training samples are forgotten (at least one of a
    class that has two) and the others retained; of its held-out samples, half (the larger half
    of an odd number) are unseen, used for calibration, and the others test.

    Args:
        labels: sample_id, label, split, sorted by sample_id: `shards.read_labels`.
        num_classes: C.
        forget_fraction: in (0, 1).
        seed: the cell's seed.
        limit: keep at most so many samples of each role, for smoke tests; None keeps all.

    Returns:
        Every sample with exactly one role (fewer samples if limited).

    Raises:
        DataError: a role came out empty.
    """
    sample_ids: list[str] = labels["sample_id"].to_pylist()
    classes = labels["label"].to_numpy()
    splits = np.array(labels["split"].to_pylist())
    roles = np.full(len(sample_ids), -1, dtype=np.int8)
    for split, first, second in ((TRAIN, FORGET, RETAIN), (HELDOUT, UNSEEN, TEST)):
        order = _random_order(sample_ids, seed, split)
        for label in range(num_classes):
            members = order[(classes[order] == label) & (splits[order] == split)]
            count = _first_count(len(members), split, forget_fraction)
            roles[members[:count]] = ROLES.index(first)
            roles[members[count:]] = ROLES.index(second)
    kept = np.sort(_keep(roles, _random_order(sample_ids, seed, "limit"), limit))
    drawn = Roles([sample_ids[row] for row in kept], classes[kept], roles[kept], num_classes)
    for role in ROLES:
        if not len(drawn.rows(role)):
            raise DataError(f"the role {role} is empty: {len(sample_ids)} images are too few")
    return drawn


def _first_count(members: int, split: str, forget_fraction: float) -> int:
    if split == HELDOUT:
        return (members + 1) // 2
    return min(max(round(forget_fraction * members), 1), members - 1) if members > 1 else 0


def _random_order(sample_ids: Sequence[str], seed: int, name: str) -> np.ndarray:
    keys = seeds.sample_keys(sample_ids)
    return np.argsort(seeds.scores(keys, seed, "roles", name).numpy(), kind="stable")


def _keep(roles: np.ndarray, order: np.ndarray, limit: int | None) -> np.ndarray:
    if limit is None:
        return np.arange(len(roles))
    return np.concatenate([order[roles[order] == role][:limit] for role in range(len(ROLES))])
