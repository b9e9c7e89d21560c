"""Draw the role of each sample: forget, retain, unseen, test or other train.

Roles are drawn within each class from (seed, sample id). So they are the same on every machine and
do not depend on the order of the shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

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
from lotus_ray.data.roles.empty import empty_role
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN


@dataclass(frozen=True)
class Chosen:
    """The training samples of a role. At most one choice is made; if none is, all are taken."""

    fraction: float | None = None  # of every class
    per_class: int | None = None  # number of samples
    classes: tuple[int, ...] | None = None  # labels of classes that are taken completely
    sample_ids: tuple[str, ...] | None = None
    lines: tuple[str, ...] = ()  # file and line of each id, for errors; not a choice

    def count(self, members: int) -> int:
        """Return how many samples a fraction or count takes from a class of `members`."""
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
    left_out: Chosen = Chosen(),
    keep_other_train: bool = True,
    limit: int | None = None,
) -> Roles:
    """Draw the role of every sample.

    A fraction or a count is drawn within each class. A fraction forgets at least one sample of a
    class that has two, and leaves at least one. `retain` takes its part of the other training
    samples; those that remain are other train. Half of the held-out samples of each class are
    unseen (rounded up), the others test.

    Args:
        labels: sample_id, label, split, sorted by sample_id, from `read_labels`. Samples of the
            split `calibration` get that role.
        num_classes: C.
        forget: the training samples to forget.
        seed: the cell's seed.
        left_out: training samples, by their ids, that play no role.
        retain: the other training samples to retain.
        keep_other_train: True keeps other train in the table. Only training an original needs it.
        limit: keep at most this many samples of each role, for smoke tests; None keeps all.

    Returns:
        The samples, each with exactly one role.

    Raises:
        DataError: a role is empty, or an id to forget is not a training sample.
    """
    sample_ids: list[str] = labels["sample_id"].to_pylist()
    classes = labels["label"].to_numpy()
    splits = np.array(labels["split"].to_pylist())
    roles = _assign(sample_ids, classes, splits, num_classes, forget, retain, seed)
    roles[_named_rows(left_out, sample_ids, splits, "leave out")] = -1
    if not keep_other_train:
        roles[roles == STORED.index(OTHER_TRAIN)] = -1
    kept = np.sort(_keep(roles, _random_order(sample_ids, seed, "limit"), limit))
    drawn = Roles([sample_ids[row] for row in kept], classes[kept], roles[kept], num_classes)
    for role in ROLES:
        if not len(drawn.indices(role)):
            raise empty_role(role, splits, classes)
    return drawn


def _assign(
    sample_ids: list[str],
    classes: np.ndarray,
    splits: np.ndarray,
    num_classes: int,
    forget: Chosen,
    retain: Chosen,
    seed: int,
) -> np.ndarray:
    """Return the role of each sample, int8 [N], as an index into STORED."""
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
    return roles


def _by_class(rows: np.ndarray, classes: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Split rows by class. The order within a class does not change."""
    grouped = rows[np.argsort(classes[rows], kind="stable")]
    return np.split(grouped, np.searchsorted(classes[grouped], np.arange(1, num_classes)))


def _forgotten(forget: Chosen, members: np.ndarray, label: int, named: np.ndarray) -> np.ndarray:
    """Return the rows to forget among one class's training samples, which are in random order."""
    if forget.sample_ids is not None:
        return members[np.isin(members, named)]
    if forget.classes is not None:
        return members if label in forget.classes else members[:0]
    count = forget.count(len(members))
    if forget.fraction is not None:
        count = min(max(count, 1), max(len(members) - 1, 0))
    return members[:count]


def _named_rows(
    chosen: Chosen, sample_ids: list[str], splits: np.ndarray, what_for: str = "forget"
) -> np.ndarray:
    """Return the rows of `chosen.sample_ids`, which are ids to forget, or to do something else.

    Raises:
        DataError: an id does not exist, is listed twice, or is held out.
    """
    if not chosen.sample_ids:
        return np.empty(0, dtype=np.int64)
    row_of = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    counted = Counter(chosen.sample_ids)
    held_out = [i for i in counted if i in row_of and splits[row_of[i]] != TRAIN]
    example = next((name for name in sample_ids if splits[row_of[name]] == TRAIN), "")
    for wrong, what in (
        ([i for i in counted if i not in row_of], "are not in the data set"),
        ([i for i, n in counted.items() if n > 1], "are named more than once"),
        (held_out, "are held out: they play the roles unseen, test or calibration"),
    ):
        if wrong:
            named = ", ".join(map(_shown, wrong[:10])) + (", …" if len(wrong) > 10 else "")
            raise DataError(
                f"{len(wrong)} ids to {what_for} {what}: {named}",
                where=_lines_of(chosen, wrong[:10]),
                nearest=f"ids such as {example}",
                next_command="correct the list; lotus-ray validate JOB.yaml",
            )
    return np.array([row_of[sample_id] for sample_id in chosen.sample_ids], dtype=np.int64)


def _shown(name: str) -> str:
    """Return an id for an error: as Python writes it if it would not show as it is."""
    return name if name.isprintable() and name == name.strip() != "" else ascii(name)


def _lines_of(forget: Chosen, names: Sequence[str]) -> str:
    """Return file and lines of some ids of a list."""
    named = dict.fromkeys(names)
    pairs = zip(forget.sample_ids or (), forget.lines, strict=False)
    lines = [line for name, line in pairs if name in named][:10]
    return ", ".join([*lines[:1], *(line.rpartition(":")[2] for line in lines[1:])])


def _random_order(sample_ids: Sequence[str], seed: int, name: str) -> np.ndarray:
    keys = seeds.sample_keys(sample_ids)
    return np.argsort(seeds.scores(keys, seed, "roles", name).numpy(), kind="stable")


def _keep(roles: np.ndarray, order: np.ndarray, limit: int | None) -> np.ndarray:
    if limit is None:
        return np.flatnonzero(roles >= 0)
    return np.concatenate([order[roles[order] == role][:limit] for role in range(len(STORED))])
