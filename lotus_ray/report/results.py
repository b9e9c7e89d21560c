"""What a Python session sees of a store: rows, a table, a data frame, the report page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.report.collect import collect
from lotus_ray.report.columns import METRICS, show_own
from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.text import to_table
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Tables of methods. A terminal shows them as text, a notebook as HTML."""

    entries: Sequence[Entry]

    def __str__(self) -> str:
        self._know_metrics()
        return to_table(self.entries)

    def __repr__(self) -> str:
        return str(self).rstrip("\n")

    def _repr_html_(self) -> str:
        from lotus_ray.report.page.notebook import to_notebook  # its figures take a second

        self._know_metrics()
        return to_notebook(self.entries)

    def _know_metrics(self) -> None:
        """Let reports have the metrics of these rows: another store may have been read since."""
        show_own(row.spec for entry in self.entries for row in entry.rows.values())


@dataclass(frozen=True)
class Page:
    """The report page. A terminal shows where it is, a notebook the page itself."""

    address: str  # where it was written
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        from lotus_ray.report.page.notebook import in_frame

        return in_frame(self.html)


class Results:
    """The rows of a store. Every use reads the store, so it shows what is there now."""

    def __init__(
        self, store: Store, shown_as: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """See `open_store`.

        Args:
            store: of the rows.
            shown_as: benchmark, model and setting of the cells to show, by cell id, in their order.
                None shows all cells, under the names in their rows.
        """
        self.store = store
        self._shown_as = shown_as

    @property
    def rows(self) -> list[Row]:
        """The row of each cell that has one: also of cells that failed (see `Row.is_ok`)."""
        rows = self.store.rows()
        if self._shown_as is not None:
            return [rows[cell_id] for cell_id in self._shown_as if cell_id in rows]
        return sorted(
            rows.values(),
            key=lambda row: (row.benchmark, row.model, row.setting, row.seed, row.method),
        )

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        rows = self.rows
        failed = sum(not row.is_ok for row in rows)
        return f"{len(rows)} rows in {self.store.uri}" + (f", {failed} failed" if failed else "")

    def table(self) -> Table:
        """Return the tables of `lotus-ray report`: means over seeds, with notes on failures."""
        return Table(self._entries())

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a line for each cell, at full precision.

        Its columns: benchmark, model, setting, method, seed, status, error, cell_id, and every
        metric under its name in `lotus-ray report --format csv`. A metric without a value is NaN;
        `Row.undefined` says why.

        Raises:
            LotusRayError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise LotusRayError(
                "a data frame needs the package pandas, which is not installed",
                nearest=".rows, which needs no other package",
                next_command="pip install pandas",
            ) from error
        columns = ("benchmark", "model", "setting", "method", "seed", "status", "error", "cell_id")
        lines = [
            [
                *(entry.benchmark, entry.model, entry.setting, entry.method),
                *(seed, row.status, row.first_error_line, row.cell_id),
                *(entry.values.get(name, {}).get(seed) for name in METRICS),
            ]
            for entry in self._entries()
            for seed, row in sorted(entry.rows.items())
        ]
        frame = pd.DataFrame(lines, columns=[*columns, *METRICS])
        return frame.astype(dict.fromkeys(METRICS, "float64"))

    def page(self, path: str | Path | None = None) -> Page:
        """Write the report page with its figures, and return it.

        Args:
            path: of the file; default `report.html` in the store, as `lotus-ray grid` does.

        Raises:
            JobError: the file cannot be written.
            StoreError: the store cannot be written.
        """
        from lotus_ray.report.page import PAGE, to_page

        page = to_page(self._entries(), self.store)
        if path is None:
            self.store.replace(PAGE, page.encode())
            return Page(self.store.address(PAGE), page)
        try:
            Path(path).write_text(page, encoding="utf-8")
        except OSError as error:
            what = f"the report cannot be written: {error.strerror}"
            raise JobError(what, where=str(path)) from error
        return Page(str(path), page)

    def _entries(self) -> list[Entry]:
        return collect(self.store, self._shown_as)


def open_store(uri: str | Path) -> Results:
    """Open a store to read it.

    Args:
        uri: a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.

    Returns:
        Its rows, which can be iterated; also as a table, a data frame and a page.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    store = Store.open(str(uri))
    store.check_exists()
    return Results(store)
