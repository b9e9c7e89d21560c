"""The templates of this package, filled in."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

REPLACEMENT = "\ufffd"  # for characters that are not allowed in HTML
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # these change the direction of text
)


def rendered(name: str, **values: Any) -> str:
    """Return HTML from a template and its values, which are escaped.

    Args:
        name: of the file.
        values: by the names that the template gives them.
    """
    environment = Environment(
        loader=PackageLoader(__package__, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return _CONTROL.sub(REPLACEMENT, environment.get_template(name).render(**values))
