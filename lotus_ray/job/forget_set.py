"""The images that a job forgets, by classes, lists and tables of ids, or wrong labels; or skips."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.roles.assign import Chosen
from lotus_ray.data.roles.class_names import class_number
from lotus_ray.data.roles.id_files import IdList, read_ids_by_key, read_sample_ids
from lotus_ray.data.sources import TRAIN
from lotus_ray.job.schema.dataset import ForgetSet, RetainSet


def choose(
    wanted: ForgetSet,
    manifest: Manifest,
    whole: pa.Table,
    kept: Collection[str],
    wrong: Collection[str],
) -> tuple[Chosen, tuple[str, ...]]:
    """Return the forget set: class names become labels, a file becomes ids.

    Args:
        wanted: of the job.
        manifest: of the data set.
        whole: sample_id and split of the data set before a subset is cut.
        kept: sample ids of the subset, or of all images.
        wrong: sample ids of images with wrong labels.

    Returns:
        The forget set, and notes on ids that are left out of it.

    Raises:
        DataError: a class does not exist, or a file of ids cannot be read.
    """
    if wanted.corrupted:
        return Chosen(sample_ids=tuple(sorted(wrong))), ()
    listed = _listed(wanted)
    if listed is None:
        where = "grid.datasets[].forget.classes"
        numbers = [class_number(str(name), manifest, where) for name in wanted.classes or ()]
        classes = tuple(numbers) or None
        return Chosen(wanted.fraction, wanted.per_class, classes), ()
    splits = dict(zip(whole["sample_id"].to_pylist(), whole["split"].to_pylist(), strict=True))
    notes = []
    if wanted.by is not None:  # of people, some photographs may be held out
        found = [name in splits and splits[name] != TRAIN for name in listed.ids]
        if any(found):
            notes.append(
                f"{sum(found)} images of forget.by are held out: they are not forgotten, "
                "because no model was trained on them"
            )
        listed = _without(listed, found)
    outside = [splits.get(name) == TRAIN and name not in kept for name in listed.ids]
    if any(outside):
        notes.append(f"{sum(outside)} images to forget are outside of the subset")
    listed = _without(listed, outside)
    return Chosen(sample_ids=listed.ids, lines=listed.lines), tuple(notes)


def left_out(retain: RetainSet, whole: pa.Table, kept: Collection[str]) -> Chosen:
    """Return the training images that play no role. Those outside of a subset need no word.

    Args:
        retain: of the job.
        whole: sample_id and split of the data set before a subset is cut.
        kept: sample ids of the subset, or of all images.

    Raises:
        DataError: the file of ids cannot be read.
    """
    if retain.without is None:
        return Chosen()
    listed = read_sample_ids(Path(retain.without))
    every = set(whole["sample_id"].to_pylist())
    listed = _without(listed, [name in every and name not in kept for name in listed.ids])
    return Chosen(sample_ids=listed.ids, lines=listed.lines)


def _listed(wanted: ForgetSet) -> IdList | None:
    if wanted.ids is not None:
        return read_sample_ids(Path(wanted.ids), wanted.column)
    if wanted.by is not None:
        values = [str(value) for value in wanted.values or ()]
        return read_ids_by_key(Path(wanted.by), wanted.key or "", values, wanted.column)
    return None


def _without(listed: IdList, left_out: list[bool]) -> IdList:
    rows = [row for row, is_out in enumerate(left_out) if not is_out]
    return IdList(tuple(listed.ids[row] for row in rows), tuple(listed.lines[row] for row in rows))
