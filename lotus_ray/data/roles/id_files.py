"""Sample ids from a file: csv of any program, Parquet, or text with one id a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.data.sources.text_table import SUFFIXES, TextTable, read_table, read_text

COLUMN = "sample_id"


@dataclass(frozen=True)
class IdList:
    """Sample ids in the order of a file, including repeated ones, and the line of each."""

    ids: tuple[str, ...]
    lines: tuple[str, ...]  # file:line


def read_sample_ids(path: Path, column: str | None = None) -> IdList:
    """Read the ids of a file.

    Args:
        path: .csv, .tsv or .parquet with a column of ids; any other file is text, one id per line.
        column: its name; None is `sample_id`.

    Raises:
        DataError: the file cannot be read, has no such column, or holds no id.
    """
    is_table = path.suffix.lower() in (*SUFFIXES, ".parquet")
    if is_table:
        table = _read(path)
        ids, lines = table.column(column or COLUMN), list(map(table.where, range(len(table.rows))))
    elif column is not None:
        raise DataError(
            "a text file has no columns", where=str(path), nearest="a file .csv or .parquet"
        )
    else:
        numbered = list(enumerate(map(str.strip, read_text(path).splitlines()), start=1))
        ids = [line for _, line in numbered]
        lines = [f"{path}:{number}" for number, _ in numbered]
    return _without_empty(ids, lines, path)


def read_ids_by_key(
    path: Path, key: str, values: Sequence[str], column: str | None = None
) -> IdList:
    """Read the ids of the rows of a table in which a column has one of some values.

    Args:
        path: of the table, .csv, .tsv or .parquet.
        key: name of the column, such as user_id.
        values: that choose rows. Each must occur.
        column: of the ids; None is `sample_id`.

    Returns:
        Each id once.

    Raises:
        DataError: the file cannot be read, has no such columns, or a value does not occur.
    """
    table = _read(path)
    keys, ids = table.column(key), table.column(column or COLUMN)
    for value in values:
        if value not in keys:
            raise DataError(
                f"no row has the {key} {value}", where=str(path), nearest=nearest(value, set(keys))
            )
    chosen: dict[str, str] = {}
    for row, (name, of_key) in enumerate(zip(ids, keys, strict=True)):
        if of_key in values:
            chosen.setdefault(name, table.where(row))
    return _without_empty(list(chosen), list(chosen.values()), path)


def _without_empty(ids: Sequence[str], lines: Sequence[str], path: Path) -> IdList:
    kept = [(name, line) for name, line in zip(ids, lines, strict=True) if name]
    if not kept:
        raise DataError("the file holds no sample id", where=str(path))
    return IdList(tuple(name for name, _ in kept), tuple(line for _, line in kept))


def _read(path: Path) -> TextTable:
    """Return a table of texts. The lines of Parquet are its rows, from 1."""
    if path.suffix.lower() != ".parquet":
        return read_table(path)
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"sample ids cannot be read: {reason}", where=str(path)) from error
    columns = [
        ["" if value is None else str(value) for value in table[name].to_pylist()]
        for name in table.column_names
        if not pa.types.is_nested(table.schema.field(name).type)
    ]
    names = [n for n in table.column_names if not pa.types.is_nested(table.schema.field(n).type)]
    rows = tuple(zip(*columns, strict=True))
    return TextTable(path, tuple(names), rows, tuple(range(1, len(rows) + 1)))
