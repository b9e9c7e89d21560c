"""Check that a folder or bucket creates an object only once: every store depends on it.

    probe-<seconds since 1970>-<unique>/once.json    removed at once

A killed process leaves such a folder. A later probe removes it once it is old.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import suppress

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.store.objects import Objects

LEFT_AFTER_SECONDS = 3600  # longer than all retries, and than differences between clocks
_PROBE = re.compile(r"probe-(?:([0-9]+)-)?[0-9a-f]{32}/")  # an older version wrote no time


def broken_promise(objects: Objects) -> str:
    """Return what is wrong with how objects are created; empty if nothing. Leave no object.

    Raises:
        StoreError: an object cannot be read or written, or the server does not answer.
    """
    folder = f"probe-{int(time.time())}-{uuid.uuid4().hex}/"
    answers = True
    try:
        wrong = _try(objects, folder)
    except StoreUnreachable:
        answers = False  # a later probe removes the folder
        raise
    finally:
        if answers:
            objects.delete_all(folder)
    with suppress(StoreError, OSError):  # leftovers do no harm
        _remove_leftovers(objects)
    return wrong


def _try(objects: Objects, folder: str) -> str:
    """Create one object twice, read it and list it; return the first wrong answer, or nothing."""
    name = f"{folder}once.json"
    first, second = b'{"try": 1}\n', b'{"try": 2}\n'
    if not objects.create(name, first):
        return "says that something new exists already"
    if objects.create(name, second):
        return "creates the same object twice"
    if objects.read(name) != first:
        return "replaces what it says exists already"
    if objects.names(folder) != [name]:
        return "does not list what was created"
    return ""


def _remove_leftovers(objects: Objects) -> None:
    oldest = time.time() - LEFT_AFTER_SECONDS
    for folder in objects.folders(""):
        match = _PROBE.fullmatch(folder)
        if match and int(match[1] or 0) < oldest:
            objects.delete_all(folder)
