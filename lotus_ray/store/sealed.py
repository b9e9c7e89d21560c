"""Small files with their own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def sealed(body: Mapping[str, Any]) -> bytes:
    """Return a file that holds a row, or another small record, and its SHA-256."""
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"sha256": "{digest}", "row": {text}}}\n'.encode()


def unsealed(content: bytes) -> dict[str, Any] | None:
    """Return the record that `sealed` wrote, or None if the file is damaged."""
    try:
        envelope = json.loads(content)
        text = json.dumps(envelope["row"], sort_keys=True, allow_nan=False)
        good = envelope["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, KeyError, TypeError):
        return None
    body: dict[str, Any] = envelope["row"]
    return body if good else None
