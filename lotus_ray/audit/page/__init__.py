"""The record for a person: one HTML page that loads nothing; its first screen has no jargon."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lotus_ray.audit.page.curve import figure, lines
from lotus_ray.audit.predicate import Figure, Predicate, Value
from lotus_ray.audit.words import RELEARN_QUESTION, first_screen, screen_lists

_NO = "–"


def to_page(predicate: Predicate) -> str:
    """Return the page of a record. The same record gives the same page.

    A record that was read from its file has sorted keys, and a new one has not: sort them.
    """
    content = json.dumps(predicate.model_dump(mode="json"), sort_keys=True)
    predicate = Predicate.model_validate_json(content)
    css = Markup(resources.files(__name__).joinpath("page.css").read_text("utf-8"))
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return _template().render(
        css=css,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'",
        record=predicate,
        screen=first_screen(predicate),
        relearn_question=RELEARN_QUESTION,
    )


@cache
def _template() -> Template:
    """Return the template of the page, compiled once."""
    environment = Environment(
        loader=PackageLoader(__name__, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": _value,
        "number": _number,
        "rows": _rows,
        "lists": screen_lists,
        "drawn": figure,
        "lines": lines,
    }
    return environment.get_template("page.html.j2")


def _value(value: Value | None) -> str:
    """Return a figure with its interval."""
    if value is None:
        return _NO
    if value.low is None or value.high is None or value.low == value.high:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _number(value: float | None) -> str:
    return _NO if value is None else f"{value:.4g}"


def _rows(figures: list[Figure]) -> list[tuple[str, str, str, str, str]]:
    """Return meaning, before, after, reference, and what the reference is, of each figure."""
    return [
        (f.meaning, _value(f.before), _value(f.after), _value(f.reference), f.reference_is)
        for f in figures
    ]
