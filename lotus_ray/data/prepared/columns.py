"""The two columns of external files, as programs write them: images as bytes, labels as numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError, nearest

WANTED = "image: struct<bytes: binary, path: string>, label: int64"
_IS_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_IS_BINARY = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


def is_text(kind: pa.DataType) -> bool:
    """Return True for text, also where a category stands for each."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(each(kind) for each in _IS_TEXT)


def is_label(kind: pa.DataType) -> bool:
    """Return True if a column of this type can hold labels: integers, or names of classes."""
    return bool(pa.types.is_integer(kind)) or is_text(kind)


def is_image(kind: pa.DataType) -> bool:
    """Return True if a column of this type can hold encoded images."""
    if pa.types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return is_image(fields.get("bytes", pa.null()))
    return any(each(kind) for each in _IS_BINARY)


def encoded_images(column: pa.Array, chosen: pa.Array) -> list[bytes | None]:
    """Return encoded images of a column, of its field `bytes` if it is a struct.

    Args:
        column: of a file.
        chosen: rows, int64 [n].
    """
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    if pa.types.is_binary_view(column.type):  # which `take` does not know
        column = column.cast(pa.large_binary())
    images: list[bytes | None] = column.take(chosen).to_pylist()
    return images


def class_names(file: pq.ParquetFile, label: str) -> list[str] | None:
    """Return the class names that the hub's own writer stores in a file, or None."""
    names = _features(file).get(label, {}).get("names")
    return [str(name) for name in names] if isinstance(names, list) else None


def columns_of_type(file: pq.ParquetFile, kind: str) -> list[str]:
    """Return the columns that the hub's own writer calls Image or ClassLabel."""
    return [name for name, feature in _features(file).items() if feature.get("_type") == kind]


def _features(file: pq.ParquetFile) -> dict[str, dict[str, object]]:
    stored = (file.metadata.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(stored or b"null")["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: feature for name, feature in features if isinstance(feature, dict)}


def labels_of(
    column: pa.ChunkedArray, classes: Sequence[str], names: Sequence[str] | None, where: str
) -> pa.ChunkedArray:
    """Return labels as indices of `classes`, int64.

    Args:
        column: integers, or names of classes.
        classes: of the data set.
        names: that this file gives its integers. If it has them in another order, they decide.
        where: file and column, for the error.

    Raises:
        DataError: a text is the name of no class.
    """
    if is_text(column.type):
        return _by_name(column.cast(pa.string()), classes, where)
    labels = column.cast(pa.int64())
    if not names or not _is_reordered(names, classes):
        return labels
    numbers = pa.array([list(classes).index(name) for name in names], pa.int64())
    inside = pc.and_(pc.greater_equal(labels, 0), pc.less(labels, len(names)))
    known = pc.take(numbers, pc.if_else(inside, labels, None))
    return pc.if_else(inside, known, labels)


def _is_reordered(names: Sequence[str], classes: Sequence[str]) -> bool:
    return set(names) <= set(classes) and list(names) != list(classes)[: len(names)]


def _by_name(column: pa.ChunkedArray, classes: Sequence[str], where: str) -> pa.ChunkedArray:
    labels = pc.index_in(column, value_set=pa.array(classes, pa.string())).cast(pa.int64())
    wrong = pc.and_(pc.is_null(labels), pc.is_valid(column))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        name = column[row].as_py()
        raise DataError(
            f"the label '{name}' is no class",
            where=f"{where}, row {row}",
            nearest=nearest(name, classes),
        )
    return labels


def rows_without_bytes(file: pq.ParquetFile, image: str) -> int:
    """Return how many rows of a file hold no image, as far as its statistics say."""
    count = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            if column.path_in_schema in (image, f"{image}.bytes"):
                statistics = column.statistics
                has_count = statistics is not None and statistics.has_null_count
                count += statistics.null_count if has_count else 0
    return count
