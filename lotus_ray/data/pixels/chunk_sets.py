"""Sets of chunks in a store: which are in use, and which are removed.

    pixels/<key>/        a set, for every command
    pixels/<session>/    sets of one command: of files that are read where they lie
    pixels/…/used        when a command that runs said last that it uses them

A command says so while it runs. A set of which nobody has said so for a while is idle. Idle sets of
one command are removed by the next one. Other idle sets are removed while all sets together are
larger than a limit: first the one that was used least recently. Clocks may be wrong, and a command
may have been asleep. So one that finds its chunks gone decodes these images again.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lotus_ray.base.errors import StoreError
from lotus_ray.data.pixels.cache_space import GIB
from lotus_ray.data.pixels.chunks import ROOT
from lotus_ray.store.results import Store

NOTE_SECONDS = 300.0  # between two notes of a command
IDLE_SECONDS = 1800.0  # two clocks may differ by 15 minutes; S3 refuses more
_JOIN_SECONDS = 5.0
_NOTE = "used"
_SESSION = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class ChunkSet:
    """The folder of a set of chunks, or that of all sets of one command."""

    name: str  # the key, or the session of the command
    size: int  # bytes
    used: float  # seconds since 1970; 0: nobody said so

    @property
    def prefix(self) -> str:
        """Its folder in the store."""
        return f"{ROOT}{self.name}/"

    @property
    def is_of_one_command(self) -> bool:
        """True if no other command may use it."""
        return _SESSION.fullmatch(self.name) is not None

    def is_idle(self, now: float) -> bool:
        """Return True if no running command has said that it uses the set."""
        return now - self.used > IDLE_SECONDS


@contextmanager
def chunk_sets_in_use(
    store: Store, keys: Collection[str], session: str, most: int, say: Callable[[str], None]
) -> Iterator[None]:
    """Say that a command uses some sets, and remove idle ones, before and after.

    However the block ends, the sets that serve this command alone are removed. A store that does
    not answer ends nothing: what is left is removed by a later command.

    Args:
        store: with the chunks.
        keys: of the sets that this command uses; none, if it shares no images.
        session: of the command.
        most: bytes of all sets.
        say: shows a line.
    """
    own = {key.partition("/")[0] for key in keys}
    stop = threading.Event()
    noting = threading.Thread(target=_note_until, args=(stop, store, own), daemon=True)
    with suppress(StoreError):
        _note(store, own)
        _remove(store, own, most, say)
    noting.start()
    try:
        yield
        if own:  # they have grown
            with suppress(StoreError):
                _remove(store, own, most, say)
    finally:
        stop.set()
        noting.join(_JOIN_SECONDS)
        if session in own:
            with suppress(StoreError):
                store.remove_all(f"{ROOT}{session}/")


def chunk_sets(store: Store) -> list[ChunkSet]:
    """List the sets of a store, the least recently used one first.

    Raises:
        StoreError: the store cannot be read.
    """
    sizes: dict[str, int] = {}
    for name, size in store.objects.sizes(ROOT).items():
        folder, slash, _ = name.removeprefix(ROOT).partition("/")
        if slash:
            sizes[folder] = sizes.get(folder, 0) + (0 if name == _note_of(folder) else size)
    notes = store.find_all(map(_note_of, sizes))
    sets = [ChunkSet(each, sizes[each], _time(notes.get(_note_of(each)))) for each in sizes]
    return sorted(sets, key=lambda each: (each.used, each.name))


def _remove(store: Store, own: Collection[str], most: int, say: Callable[[str], None]) -> None:
    """Remove idle sets, and say so in one line. Sets of `own` stay."""
    sets, now = chunk_sets(store), time.time()
    left: list[ChunkSet] = []
    old: list[ChunkSet] = []
    total = _size(sets)
    for each in sorted(sets, key=lambda each: not each.is_of_one_command):
        if each.name in own or not each.is_idle(now):
            continue
        if each.is_of_one_command:
            gone = _removed(store, each)
            left += gone
        elif not each.size or total > most:
            gone = _removed(store, each)
            old += gone
        else:
            continue
        total -= _size(gone)
    why_old = f"that nobody used for longest (decoded_store_gb is {most / GIB:g})"
    parts = [
        f"{_text(_size(gone))} {why}"
        for gone, why in ((left, "that stopped commands left"), (old, why_old))
        if _size(gone)
    ]
    if parts:
        say(f"removed decoded images from the store: {', and '.join(parts)}")


def _removed(store: Store, each: ChunkSet) -> Sequence[ChunkSet]:
    """Remove a set, unless a command has begun to use it. Return it if it is gone."""
    used = _time(store.find(_note_of(each.name)))
    if used != each.used:
        return ()
    store.remove_all(each.prefix)
    return () if store.objects.names(each.prefix) else (each,)


def _note(store: Store, own: Collection[str]) -> None:
    content = json.dumps({"at": time.time()}).encode()
    for name in own:
        store.replace(_note_of(name), content)


def _note_until(stop: threading.Event, store: Store, own: Collection[str]) -> None:
    """Note that sets are in use, again and again."""
    while not stop.wait(NOTE_SECONDS):
        with suppress(StoreError):
            _note(store, own)


def _note_of(name: str) -> str:
    return f"{ROOT}{name}/{_NOTE}"


def _time(note: bytes | None) -> float:
    """Return the time in a note; 0 if there is none, or it is torn."""
    try:
        return float(json.loads(note or b"")["at"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _size(sets: Sequence[ChunkSet]) -> int:
    return sum(each.size for each in sets)


def _text(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"
