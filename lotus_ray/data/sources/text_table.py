"""Tables that people keep as text: csv of any program, with its separator, BOM and line ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lotus_ray.base.errors import DataError, nearest

SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ",;\t|"
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass(frozen=True)
class TextTable:
    """A table of texts. Each row knows its line in the file, for errors."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # spaces around values are removed
    lines: tuple[int, ...]  # of each row, from 1

    def column(self, name: str) -> list[str]:
        """Return the values of a column. Upper and lower case are the same.

        Raises:
            DataError: there is no such column.
        """
        names = [each.lower() for each in self.columns]
        if name.lower() not in names:
            raise DataError(
                f"there is no column {name}",
                where=f"{self.path}:1",
                nearest=nearest(name, self.columns),
                next_command=f"name the column {name}, or name another one in the job",
            )
        index = names.index(name.lower())
        return [row[index] for row in self.rows]

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.path}:{self.lines[row]}"


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, as Excel also writes it, UTF-16.

    Raises:
        DataError: the file cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
        encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "utf-8")
        return content.decode(encoding)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError(
            "the file cannot be read: it is no UTF-8",
            where=str(path),
            next_command="save it as CSV UTF-8",
        ) from error


def read_table(path: Path) -> TextTable:
    """Read a csv whose first row names its columns.

    The separator is a comma, semicolon, tab or bar, whichever the first row holds most of. Empty
    rows, empty last columns and repeated headings are left out.

    Raises:
        DataError: the file cannot be read, holds no row, or a row has too many or too few values.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)
    if first.lower().startswith("sep="):  # Excel's own way to name it
        separator = first[4:5] or separator
    records = list(_records(text, separator, path))
    if not records:
        raise DataError("the table is empty", where=str(path))
    heading = records[0][1]
    columns = heading[: _width(heading)]
    rows, lines = [], []
    for line, values in records[1:]:
        if values == heading:
            continue
        values = values[: max(_width(values), len(columns))]
        if len(values) != len(columns):
            raise DataError(
                f"a row has {len(values)} values, and the first row {len(columns)}",
                where=f"{path}:{line}",
                next_command="put values that hold the separator in double quotes",
            )
        rows.append(tuple(values))
        lines.append(line)
    return TextTable(path, tuple(columns), tuple(rows), tuple(lines))


def _records(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the values of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            values = [value.strip() for value in row]
            is_hint = reader.line_num == 1 and text.lower().startswith("sep=")
            if any(values) and not is_hint:
                yield reader.line_num, values
    except csv.Error as error:
        raise DataError(f"this is no csv: {error}", where=f"{path}:{reader.line_num}") from error


def _width(values: Sequence[str]) -> int:
    """Return how many values there are without empty ones at the end."""
    return max((index + 1 for index, value in enumerate(values) if value), default=0)
