"""Check that a store can be written and creates each object only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lotus_ray.base.errors import LotusRayError
from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from lotus_ray.cli.doctor.machine import GIB, Free, free_bytes, free_of
from lotus_ray.store.objects import Objects
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.objects.retry import RetryPolicy
from lotus_ray.store.probe import broken_promise
from lotus_ray.store.results import Store

_ANOTHER = "lotus-ray doctor --store FOLDER"
_MAKE_ROOM = "df -h   (free some space, or lotus-ray grid JOB.yaml --store FOLDER of another disk)"
NEEDED_BYTES = 100 << 20  # with less, a grid cannot keep its weights
_HASTE = RetryPolicy(total_seconds=6, request_seconds=4, connect_seconds=3)


def storage(
    uri: str | None, opened: Callable[[str], Store] = Store.open, free: Free = free_bytes
) -> Finding:
    """Report whether a store can be written and refuses to create an object twice.

    The check leaves nothing behind.

    Args:
        uri: the store; None checks nothing.
        opened: opens the store.
        free: returns total and free bytes of a folder.
    """
    if uri is None:
        return Finding("store", OK, "not checked: no --store", "")
    try:
        objects = _in_haste(opened(uri).objects)
        with _as_it_was(objects):
            wrong = broken_promise(objects)
    except LotusRayError as error:
        where = f" ({error.where})" if error.where else ""
        return Finding("store", PROBLEM, f"{error.what}{where}", error.next_command or _ANOTHER)
    except OSError as error:
        return Finding("store", PROBLEM, f"it cannot be used: {error.strerror or error}", _ANOTHER)
    if wrong:
        return Finding("store", PROBLEM, f"{uri} {wrong}: rows would be lost", _ANOTHER)
    if isinstance(objects, LocalObjects):
        total, left = free(objects.root)
        text = f"{uri} creates once and not twice; {free_of(left, total)}"
        if left >= GIB:
            return Finding("store", OK, text)
        status = PROBLEM if left < NEEDED_BYTES else WARNING
        return Finding("store", status, f"the disk is nearly full: {text}", _MAKE_ROOM)
    return Finding("store", OK, f"{uri} creates once and not twice")


def _in_haste(objects: Objects) -> Objects:
    """Return the same objects, but retry requests to a bucket only for a few seconds."""
    if isinstance(objects, LocalObjects):
        return objects
    from lotus_ray.store.objects.cloud import CloudObjects

    return CloudObjects(objects.address, _HASTE) if isinstance(objects, CloudObjects) else objects


@contextmanager
def _as_it_was(objects: Objects) -> Iterator[None]:
    """Remove the folders that the check created for a local store."""
    root = objects.root if isinstance(objects, LocalObjects) else Path()
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in made:
            with suppress(OSError):  # a grid may have begun there meanwhile
                folder.rmdir()
