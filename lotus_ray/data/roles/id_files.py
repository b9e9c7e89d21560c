"""Sample ids from a file: csv, Parquet, or text with one id a line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lotus_ray.base.errors import DataError

COLUMN = "sample_id"


def read_sample_ids(path: Path) -> tuple[str, ...]:
    """Read the ids of a file.

    Args:
        path: .csv or .parquet with a column `sample_id`; any other file is text, one id per line.

    Returns:
        The ids in the order of the file, including repeated ones.

    Raises:
        DataError: the file cannot be read, has no such column, or holds no id.
    """
    try:
        if path.suffix == ".csv":
            ids = _column(pyarrow.csv.read_csv(path), path)
        elif path.suffix == ".parquet":
            ids = _column(pq.read_table(path), path)
        else:
            ids = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"sample ids cannot be read: {error}", where=str(path)) from error
    if not ids:
        raise DataError("the file holds no sample id", where=str(path))
    return tuple(ids)


def _column(table: pa.Table, path: Path) -> list[str]:
    if COLUMN not in table.column_names:
        raise DataError(
            f"there is no column {COLUMN}",
            where=str(path),
            nearest=f"one of {', '.join(table.column_names)}",
            next_command=f"rename the column of ids to {COLUMN}",
        )
    return [str(value) for value in table[COLUMN].to_pylist()]
