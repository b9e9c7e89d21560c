"""Figures -> SVG inside a page, and SVG and PDF files for papers."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib
from matplotlib.figure import Figure

from lotus_ray.base.errors import StoreError
from lotus_ray.report.entries import Entry, Group, groups
from lotus_ray.report.figures import FIGURES, draw
from lotus_ray.report.figures.sheet import INK, styled
from lotus_ray.store.results import Store

_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_NOT_OURS = ("metadata", "style")
_REFERENCE = re.compile(r"#([^)\s\"]+)")
_DIGITS = re.compile(r"(\.\d\d)\d+")
_ZEROS = re.compile(r"\.0*(?=$|[^\d])")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def to_inline(figure: Figure, prefix: str, label: str) -> str:
    """Return a figure as an `svg` element with the page's ink and font.

    Args:
        figure: drawn by `draw`.
        prefix: of its ids, so that several figures can be on one page.
        label: its name for screen readers.

    Returns:
        HTML without addresses, and without styles, which the page's content policy forbids.
    """
    root = ET.fromstring(_saved(figure, "svg", {"svg.fonttype": "none"}))
    used = {name for node in root.iter() for name in _references(node)}
    for parent in root.iter():
        for child in [c for c in parent if c.tag.removeprefix(_SVG) in _NOT_OURS]:
            parent.remove(child)
        _plain(parent, prefix, used)
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": f"{width:g}",
        "height": f"{height:g}",
        "role": "img",
        "aria-label": label,
        "stroke-linejoin": "round",
    }
    return ET.tostring(root, encoding="unicode")


def write_figures(entries: Sequence[Entry], store: Store, folder: Path) -> list[Path]:
    """Write every figure of every table as SVG and PDF, black on transparent.

    Args:
        entries: of the report.
        store: with the cells' artifacts.
        folder: is created if it does not exist.

    Returns:
        The files, in the order of tables and figures.

    Raises:
        StoreError: a file cannot be written.
    """
    written: list[Path] = []
    taken: set[str] = set()
    for group in groups(entries):
        stem = _free(_stem(group), taken)
        for name in FIGURES:
            figure = draw(name, group, store).figure
            if figure is not None:
                path = folder / f"{stem}-{name}"
                written += [_write(figure, Path(f"{path}.{kind}")) for kind in ("svg", "pdf")]
    return written


def _write(figure: Figure, path: Path) -> Path:
    kind = path.suffix.removeprefix(".")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_saved(figure, kind, {"svg.fonttype": "path"}))
    except OSError as error:
        raise StoreError(
            f"a figure cannot be written: {error.strerror}", where=str(path)
        ) from error
    return path


def _saved(figure: Figure, kind: str, options: dict[Any, Any]) -> bytes:
    """Return the content of a file. It has no dates and no random ids, so it is reproducible."""
    content = io.BytesIO()
    date = "Date" if kind == "svg" else "CreationDate"
    with styled():
        matplotlib.rcParams.update(options)
        figure.savefig(content, format=kind, metadata={date: None})
    result = content.getvalue()
    is_file = kind == "svg" and options["svg.fonttype"] == "path"
    return result.replace(INK.encode(), b"#000000") if is_file else result


def _plain(node: ET.Element, prefix: str, used: set[str]) -> None:
    """Turn styles into attributes, prefix ids, and replace the ink by the page's."""
    node.tag = node.tag.removeprefix(_SVG)
    for part in node.attrib.pop("style", "").split(";"):
        name, _, value = part.strip().partition(": ")
        if name and name != "font-family":
            node.attrib[name] = value
    if _HREF in node.attrib:
        node.attrib["href"] = node.attrib.pop(_HREF)
    if node.attrib.get("id") not in used:
        node.attrib.pop("id", None)
    for name, value in node.attrib.items():
        if name == "id":
            node.attrib[name] = f"{prefix}-{value}"
        elif name in ("href", "clip-path"):
            node.attrib[name] = value.replace("#", f"#{prefix}-")
        elif value == INK:
            node.attrib[name] = "currentColor"
        else:
            node.attrib[name] = _ZEROS.sub("", _DIGITS.sub(r"\1", value))
    node.tail = None if (node.tail or "").isspace() else node.tail
    node.text = None if node.tag != "text" and (node.text or "").isspace() else node.text


def _references(node: ET.Element) -> list[str]:
    values = (node.attrib.get(name, "") for name in (_HREF, "clip-path"))
    return [name for value in values for name in _REFERENCE.findall(value)]


def _stem(group: Group) -> str:
    return "-".join(
        _UNSAFE.sub("_", part) for part in (group.benchmark, group.model, group.setting)
    )


def _free(stem: str, taken: set[str]) -> str:
    """Return a file name that no other table has: names may differ only in unsafe characters."""
    stem = stem.lstrip(".")[:180]
    result, number = stem, 2
    while result.lower() in taken:
        result, number = f"{stem}-{number}", number + 1
    taken.add(result.lower())
    return result
