"""Whether a place keeps the promise on which a store rests: what is created once stays as it is.

    probe-<seconds since 1970>-<unique>/once.json    gone in a moment

A process that is killed in between leaves such a folder; the next probe removes it when it is old.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import suppress

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.store.objects import Objects

LEFT_AFTER_SECONDS = 3600  # longer than patience with a slow server, and clocks that differ
_PROBE = re.compile(r"probe-(?:([0-9]+)-)?[0-9a-f]{32}/")  # an older version told no time


def broken_promise(objects: Objects) -> str:
    """Return what is wrong with how a place creates objects, or nothing; leave nothing there.

    Raises:
        StoreError: it cannot be read or written, or does not answer.
    """
    folder = f"probe-{int(time.time())}-{uuid.uuid4().hex}/"
    answers = True
    try:
        wrong = _try(objects, folder)
    except StoreUnreachable:
        answers = False  # what may be there is removed by a later probe
        raise
    finally:
        if answers:
            objects.delete_all(folder)
    with suppress(StoreError, OSError):  # they are in nobody's way
        _remove_leftovers(objects)
    return wrong


def _try(objects: Objects, folder: str) -> str:
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
        found = _PROBE.fullmatch(folder)
        if found and int(found[1] or 0) < oldest:
            objects.delete_all(folder)
