"""Classes by name: find a class, and match the classes of two data sets."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.base.roles import CALIBRATION
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import DIGEST, Manifest

_SHOWN = 10  # classes that an error names


def class_number(name: str, manifest: Manifest, where: str) -> int:
    """Return the label of a class.

    Args:
        name: the class's name in the data set, or a title that no other class has.
        manifest: the prepared data set.
        where: line of the job, for the error.

    Raises:
        DataError: no class has this name, or several do.
    """
    if name in manifest.classes:
        return manifest.classes.index(name)
    synonyms = [[s.strip() for s in title.split(",")] for title in manifest.titles]
    result = [label for label, titles in enumerate(synonyms) if name in titles]
    if len(result) == 1:
        return result[0]
    if result:
        raise DataError(
            f"{len(result)} classes are called '{name}'",
            where=where,
            nearest=" or ".join(manifest.classes[label] for label in result),
        )
    names = [*manifest.classes, *(title for titles in synonyms for title in titles if title)]
    known = ", ".join(manifest.classes[:_SHOWN]) + (", …" if manifest.classes[_SHOWN:] else "")
    raise DataError(
        f"there is no class '{name}'; there are {len(manifest.classes)}: {known}",
        where=where,
        nearest=nearest(name, names),
    )


def with_calibration(labels: pa.Table, manifest: Manifest, calibration: Manifest) -> pa.Table:
    """Add the images of a calibration set to a table of labels. Classes match by name.

    Args:
        labels: sample_id, label, split, sha256 of the data set, from `read_labels`.
        manifest: the data set.
        calibration: the calibration set. Images of all its splits are taken.

    Returns:
        Both tables, sorted by sample_id. The added rows have the split "calibration".

    Raises:
        DataError: a class of the calibration set is unknown, or the two share sample ids.
    """
    where = str(calibration.directory)
    numbers = [class_number(name, manifest, where) for name in calibration.classes]
    table = read_labels(calibration)
    ids = table["sample_id"]
    shared = ids.filter(pc.is_in(ids, value_set=labels["sample_id"]))
    if len(shared):
        raise DataError(
            f"{len(shared)} sample ids are in {manifest.directory} too: "
            f"{', '.join(shared[:5].to_pylist())}",
            where=where,
        )
    added = pa.table(
        {
            "sample_id": table["sample_id"],
            "label": [numbers[label] for label in table["label"].to_pylist()],
            "split": [CALIBRATION] * len(table),
            DIGEST: table[DIGEST],
        },
        schema=labels.schema,
    )
    return pa.concat_tables([labels, added]).sort_by("sample_id")
