"""Warnings about the images of each role, for people and for rows. They are no errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lotus_ray.base.roles import FORGET, RETAIN, ROLES, STORED, TEST, UNSEEN
from lotus_ray.data.prepared.manifest import DIGEST
from lotus_ray.data.roles.table import Roles

WHOLE_CLASS = "forgotten whole: "  # begins a note that reports show below their tables
NAMED = 3  # classes or images that a warning names
UNCHECKED = "not checked: images that occur twice (files read in place)"


def notes_on(roles: Roles, labels: pa.Table, classes: Sequence[str]) -> tuple[str, ...]:
    """Warn about roles without images of some class, and about images with two roles.

    Args:
        roles: the table of roles.
        labels: sample_id, label, split, sha256 of at least these samples.
        classes: names in the order of labels.

    Returns:
        One line for each role without some class, for classes that are forgotten whole, and for
        each two roles that share an image.
    """
    return (*_absent(roles, classes), *_whole(roles, classes), *_shared(roles, labels))


def _absent(roles: Roles, classes: Sequence[str]) -> Iterator[str]:
    for role in ROLES:
        counts = np.bincount(roles.labels[roles.indices(role)], minlength=len(classes))
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            yield (
                f"{role} holds no image of {len(absent)} of {len(classes)} classes, which metrics "
                f"by class leave out: {_listed(classes[label] for label in absent[: NAMED + 1])}"
            )


def _whole(roles: Roles, classes: Sequence[str]) -> Iterator[str]:
    """Say what forgetting a whole class means for a model that never saw it."""
    counts = {
        role: np.bincount(roles.labels[roles.indices(role)], minlength=len(classes))
        for role in ROLES
    }
    gone = np.flatnonzero((counts[FORGET] > 0) & (counts[RETAIN] == 0))
    if len(gone):
        shares = [counts[role][gone].sum() / max(counts[role].sum(), 1) for role in (UNSEEN, TEST)]
        yield (
            f"{WHOLE_CLASS}{_listed(classes[label] for label in gone[: NAMED + 1])}. A model that "
            "was never trained on it, as the gold standard, cannot recognise it: that alone costs "
            f"{shares[0]:.2f} of its unseen accuracy and {shares[1]:.2f} of its test accuracy"
        )


def _shared(roles: Roles, labels: pa.Table) -> Iterator[str]:
    """Compare the digests of images. Equal bytes are the same image, even if their ids differ."""
    indices = pc.index_in(pa.array(roles.sample_ids, pa.string()), value_set=labels["sample_id"])
    digests = pc.take(labels[DIGEST], indices)
    hashed = np.flatnonzero(digests.is_valid().to_numpy())
    if len(hashed) < len(roles):
        yield UNCHECKED
    codes = np.full(len(roles), -1)
    encoded = pc.dictionary_encode(digests.drop_null().combine_chunks())
    codes[hashed] = encoded.indices.to_numpy()
    played = np.zeros((len(STORED), len(encoded.dictionary)), dtype=bool)  # [role, image]
    played[roles.roles[hashed], codes[hashed]] = True
    for first, second in combinations(range(len(STORED)), 2):
        both = played[first] & played[second]
        if both.any():
            pairs = (
                " = ".join(_first_id(roles, codes, role, code) for role in (first, second))
                for code in np.flatnonzero(both)[: NAMED + 1]
            )
            images = "image" if both.sum() == 1 else "images"
            yield f"{STORED[first]} and {STORED[second]} share {both.sum()} {images}: " + _listed(
                pairs
            )


def _first_id(roles: Roles, codes: np.ndarray, role: int, code: int) -> str:
    return roles.sample_ids[int(np.flatnonzero((codes == code) & (roles.roles == role))[0])]


def _listed(names: Iterator[str]) -> str:
    result = list(names)
    return ", ".join([*result[:NAMED], *(["…"] if len(result) > NAMED else [])])
