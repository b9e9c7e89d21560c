"""Which sample plays which role: forget, retain, unseen, test or rest.

Drawn within each class from (seed, sample id), so that the roles are the same on every machine
and do not depend on the order of the shards.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.base import seeds
from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import (
    CALIBRATION,
    FORGET,
    OTHER_TRAIN,
    RETAIN,
    ROLES,
    STORED,
    TEST,
    UNSEEN,
)
from lotus_ray.data.sources import HELDOUT, TRAIN


@dataclass(frozen=True)
class Roles:
    """The table of roles, sorted by sample id. A sample's place in it is its `row` everywhere."""

    sample_ids: list[str]
    labels: np.ndarray  # [N], int64
    roles: np.ndarray  # [N], int8: place in STORED
    num_classes: int

    def __len__(self) -> int:
        return len(self.sample_ids)

    def rows(self, *roles: str) -> np.ndarray:
        """Return the rows, int64 [n], that play any of `roles`."""
        return np.flatnonzero(np.isin(self.roles, [STORED.index(role) for role in roles]))

    def without(self, sample_ids: Collection[str]) -> Roles:
        """Return the table without some samples."""
        kept = [row for row, name in enumerate(self.sample_ids) if name not in sample_ids]
        names = [self.sample_ids[row] for row in kept]
        return Roles(names, self.labels[kept], self.roles[kept], self.num_classes)

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
        """Read what `to_parquet` wrote."""
        table = pq.read_table(io.BytesIO(content))
        return cls(
            sample_ids=table["sample_id"].to_pylist(),
            labels=table["label"].to_numpy(),
            roles=np.array([STORED.index(r) for r in table["role"].to_pylist()], dtype=np.int8),
            num_classes=int(table.schema.metadata[b"num_classes"]),
        )


@dataclass(frozen=True)
class Chosen:
    """Which training samples a role takes. At most one field is given; none takes all.

    `fraction` is a part of every class, `per_class` a count; `classes` are whole classes by
    number; `sample_ids` are named one by one.
    """

    fraction: float | None = None
    per_class: int | None = None
    classes: tuple[int, ...] | None = None
    sample_ids: tuple[str, ...] | None = None

    def count(self, members: int) -> int:
        """Return how many of so many candidates of one class a fraction or count takes."""
        if self.fraction is not None:
            return round(self.fraction * members)
        return members if self.per_class is None else min(self.per_class, members)


def draw_roles(
    labels: pa.Table,
    num_classes: int,
    forget: Chosen,
    seed: int,
    *,
    retain: Chosen = Chosen(),
    keep_rest: bool = True,
    limit: int | None = None,
) -> Roles:
    """Draw the role of every sample.

    A fraction or a count is drawn within each class; a fraction forgets at least one of a class
    that has two, and leaves one. Of the other training samples `retain` takes its part, and the
    rest plays the role `rest`. Of the held-out samples of each class half (the larger half of an
    odd number) are unseen, used for calibration, and the others test.

    Args:
        labels: sample_id, label, split, sorted by sample_id: `preflight.read_labels`. Samples
            of the split `calibration` play that role.
        num_classes: C.
        forget: which training samples to forget.
        seed: the cell's seed.
        retain: which of the others to retain.
        keep_rest: whether samples of the role `rest` stay in the table; nothing but the training
            of an original needs them.
        limit: keep at most so many samples of each role, for smoke tests; None keeps all.

    Returns:
        Every sample with exactly one role (fewer samples if limited, or without the rest).

    Raises:
        DataError: a role came out empty, or an id to forget is no training sample.
    """
    sample_ids: list[str] = labels["sample_id"].to_pylist()
    classes = labels["label"].to_numpy()
    splits = np.array(labels["split"].to_pylist())
    named = _named_rows(forget, sample_ids, splits)
    roles = np.full(len(sample_ids), -1, dtype=np.int8)
    is_of = {split: splits == split for split in (TRAIN, HELDOUT)}
    for split in (TRAIN, HELDOUT):
        order = _random_order(sample_ids, seed, split)
        for label, members in enumerate(
            _by_class(order[is_of[split][order]], classes, num_classes)
        ):
            if split == HELDOUT:
                parts = np.split(members, [(len(members) + 1) // 2])
                assigned = zip((UNSEEN, TEST), parts, strict=True)
            else:
                forgotten = _forgotten(forget, members, label, named)
                others = members[~np.isin(members, forgotten)]
                parts = np.split(others, [retain.count(len(others))])
                assigned = zip((FORGET, RETAIN, OTHER_TRAIN), (forgotten, *parts), strict=True)
            for role, rows in assigned:
                roles[rows] = STORED.index(role)
    roles[splits == CALIBRATION] = STORED.index(CALIBRATION)
    if not keep_rest:
        roles[roles == STORED.index(OTHER_TRAIN)] = -1
    kept = np.sort(_keep(roles, _random_order(sample_ids, seed, "limit"), limit))
    drawn = Roles([sample_ids[row] for row in kept], classes[kept], roles[kept], num_classes)
    for role in ROLES:
        if not len(drawn.rows(role)):
            raise DataError(f"the role {role} is empty: {len(sample_ids)} images are too few")
    return drawn


def _by_class(rows: np.ndarray, classes: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Part rows by their class, the order within each as it was."""
    grouped = rows[np.argsort(classes[rows], kind="stable")]
    return np.split(grouped, np.searchsorted(classes[grouped], np.arange(1, num_classes)))


def _forgotten(forget: Chosen, members: np.ndarray, label: int, named: np.ndarray) -> np.ndarray:
    """Return which training samples of one class, in random order, are forgotten."""
    if forget.sample_ids is not None:
        return members[np.isin(members, named)]
    if forget.classes is not None:
        return members if label in forget.classes else members[:0]
    count = forget.count(len(members))
    if forget.fraction is not None:
        count = min(max(count, 1), max(len(members) - 1, 0))
    return members[:count]


def _named_rows(forget: Chosen, sample_ids: list[str], splits: np.ndarray) -> np.ndarray:
    """Return the rows of ids named one by one.

    Raises:
        DataError: an id does not exist, is named twice, or is held out.
    """
    if forget.sample_ids is None:
        return np.empty(0, dtype=np.int64)
    places = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    counted = Counter(forget.sample_ids)
    held_out = [i for i in counted if i in places and splits[places[i]] != TRAIN]
    for wrong, what in (
        ([i for i in counted if i not in places], "are not in the data set"),
        ([i for i, n in counted.items() if n > 1], "are named more than once"),
        (held_out, "are held out: they play the roles unseen, test or calibration"),
    ):
        if wrong:
            more = ", …" if len(wrong) > 10 else ""
            raise DataError(f"{len(wrong)} ids to forget {what}: {', '.join(wrong[:10])}{more}")
    return np.array([places[sample_id] for sample_id in forget.sample_ids], dtype=np.int64)


def _random_order(sample_ids: Sequence[str], seed: int, name: str) -> np.ndarray:
    keys = seeds.sample_keys(sample_ids)
    return np.argsort(seeds.scores(keys, seed, "roles", name).numpy(), kind="stable")


def _keep(roles: np.ndarray, order: np.ndarray, limit: int | None) -> np.ndarray:
    if limit is None:
        return np.flatnonzero(roles >= 0)
    return np.concatenate([order[roles[order] == role][:limit] for role in range(len(STORED))])
