"""The full content of a store as one HTML file that loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup

from lotus_ray.base.version import VERSION
from lotus_ray.report.entries import Entry, Group, groups
from lotus_ray.report.figures import FIGURES, draw
from lotus_ray.report.figures.files import to_inline
from lotus_ray.report.finding import findings
from lotus_ray.report.formats import shown
from lotus_ray.report.page.cells import Cell, cells_of
from lotus_ray.report.page.download_files import downloads
from lotus_ray.report.page.head import facts, legend, roles_of, smoke
from lotus_ray.report.page.strip import Pictures, Strip
from lotus_ray.report.page.tables import Table, table_of
from lotus_ray.report.page.templates import rendered
from lotus_ray.store.origin import Origin
from lotus_ray.store.results import Store

PAGE = "report.html"  # in the store
FULL_CELLS = 200  # with more cells, only failed ones get a part each, at most so many
FULL_TABLES = 8  # with more tables, each has only the figures of FEW
FEW = ("rf-jsd", "trade-off")
DRAWN_TABLES = 60  # later tables have no figures
STRIPS = 4  # later tables have no images


@dataclass(frozen=True)
class Shown:
    """A figure on the page."""

    name: str
    title: str
    seen: str
    caption: str
    svg: Markup  # empty if there is nothing to draw


@dataclass(frozen=True)
class Section:
    """A table with its figures and cells."""

    anchor: str
    title: str
    setting: str
    findings: list[str]
    roles: list[str]
    table: Table
    figures: list[Shown]
    cells: list[Cell]
    beside: shown.Table | None  # measured and published figures
    strip: Strip


def to_page(
    entries: Sequence[Entry], store: Store, against: str | None = None, images: bool = True
) -> str:
    """Return an HTML page of the entries of a store. The same store gives the same page.

    Args:
        entries: of the report.
        store: of the entries. Outputs of samples are read from it.
        against: "paper" or "notebooks" shows published figures beside the measured ones.
        images: show a few forgotten images, if the store's job says where they are.
    """
    tables = groups(entries)
    pictures = Pictures(store) if images else None
    sections = [
        _section(
            group,
            f"table-{number}",
            _figures_of(number, len(tables)),
            store,
            against,
            pictures.of(group) if pictures and number <= STRIPS else Strip(),
        )
        for number, group in enumerate(tables, start=1)
    ]
    name = Origin.read(store).job or _name(store)
    cells = [cell for section in sections for cell in section.cells]
    css, js = _text("page.css"), _text("page.js")
    return rendered(
        "page.html.j2",
        css=css,
        js=js,
        policy=f"default-src 'none'; style-src {_digest(css)}; script-src {_digest(js)}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        title=name,
        store=_name(store),
        downloads=downloads(entries, _file_name(name), against),
        facts=facts(entries),
        legend=legend(tables),
        smoke=smoke(entries),
        has_gold=any(group.gold is not None for group in tables),
        sections=sections,
        version=VERSION,
        linked=_in_full(cells),
        is_brief=len(cells) > FULL_CELLS,
        full_cells=FULL_CELLS,
        cell_count=len(cells),
        few=len(tables) > FULL_TABLES,
        full_tables=FULL_TABLES,
        drawn_tables=DRAWN_TABLES,
        table_count=len(tables),
    )


def _section(
    group: Group,
    anchor: str,
    figures: Sequence[str],
    store: Store,
    against: str | None,
    strip: Strip,
) -> Section:
    """Return a table with the named figures and its cells."""
    return Section(
        anchor,
        group.heading,
        group.setting,
        findings(group),
        roles_of(group),
        table_of(group),
        [_shown(name, group, anchor, store) for name in figures],
        cells_of(group),
        shown.tables(group.entries, against)[0] if against else None,
        strip,
    )


def _shown(name: str, group: Group, anchor: str, store: Store) -> Shown:
    drawing = draw(name, group, store)
    label = f"{drawing.title}. {drawing.seen}".strip()
    svg = "" if drawing.figure is None else to_inline(drawing.figure, f"{anchor}-{name}", label)
    return Shown(name, drawing.title, drawing.seen, drawing.caption, Markup(svg))


def _figures_of(number: int, tables: int) -> Sequence[str]:
    if tables <= FULL_TABLES:
        return tuple(FIGURES)
    return FEW if number <= DRAWN_TABLES else ()


def _in_full(cells: Sequence[Cell]) -> set[str]:
    """Return the anchors of the cells that get a part each."""
    if len(cells) > FULL_CELLS:
        cells = [cell for cell in cells if not cell.is_good][:FULL_CELLS]
    return {cell.anchor for cell in cells}


def _name(store: Store) -> str:
    return store.uri.rstrip("/").rsplit("/", 1)[-1] or store.uri


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "report"


def _text(name: str) -> Markup:
    """Return the text of a file of this package, which goes into the page unchanged."""
    return Markup(resources.files(__name__).joinpath(name).read_text("utf-8"))


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
