"""Share small data that a grid makes itself with all nodes: embedded images, and manifests.

    data/<digest>/...    a prepared data set, or the manifest of external files, by content

A store in a folder holds the data directly, and every node reads them there. From a store in a
bucket, each node copies the data of its groups to a local folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lotus_ray.base.errors import StoreError
from lotus_ray.data.prepared.manifest import MANIFEST, Manifest
from lotus_ray.store.results import Store

_DIGITS = 20  # of a digest, in the name of a folder


def embedded_folder(store: Store) -> Path:
    """Return the folder for such data: in the store, or in this user's cache folder."""
    return store.folder / "data" if store.folder is not None else _cache() / "made"


def keep(store: Store, manifests: Sequence[Manifest], scratch: Path) -> list[Manifest]:
    """Store the data that a grid made itself, so that every node can read them.

    Args:
        store: a folder holds the data. A bucket gets a copy.
        manifests: of all data sets. Data outside `scratch` do not move.
        scratch: data in this folder move to `embedded_folder`.

    Returns:
        The manifests, with folders that `fetch` can create on any node.

    Raises:
        StoreError: the store, or this user's cache folder, cannot be written.
    """
    moved = [
        _moved(manifest, embedded_folder(store))
        if manifest.directory.is_relative_to(scratch)
        else manifest
        for manifest in manifests
    ]
    if store.folder is not None:
        return moved
    return [
        _shared(store, manifest) if manifest.directory.is_relative_to(_cache()) else manifest
        for manifest in moved
    ]


def _moved(manifest: Manifest, parent: Path) -> Manifest:
    """Move a folder of data into `parent`, in one step, and replace an older one there."""
    target = parent / manifest.directory.name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".made-", dir=parent) as partial:
            copy = Path(shutil.move(manifest.directory, partial))
            if target.exists():
                target.rename(Path(partial) / "before")
            copy.rename(target)
    except OSError as error:
        raise StoreError(
            f"data cannot be written: {error.strerror}",
            where=str(target),
            next_command="lotus-ray grid JOB.yaml --store FOLDER",
        ) from error
    return replace(manifest, directory=target)


def _shared(store: Store, manifest: Manifest) -> Manifest:
    digest = _digest((manifest.directory / MANIFEST).read_bytes())
    files = [path for path in manifest.directory.rglob("*") if path.is_file()]
    names = {path.relative_to(manifest.directory).as_posix() for path in files} - {MANIFEST}
    for name in (*sorted(names), MANIFEST):  # the manifest last: with it, the data are complete
        store.put(f"data/{digest}/{name}", (manifest.directory / name).read_bytes())
    folder = _cache() / digest
    fetch(store, [folder])
    return replace(manifest, directory=folder)


def fetch(store: Store, folders: Iterable[Path]) -> None:
    """Copy data from a store in a bucket to this node, unless they are already here.

    Args:
        store: holds the data under the name of each folder.
        folders: of the data sets, on this node.

    Raises:
        StoreError: the data in the store changed, or cannot be written here.
    """
    for folder in folders:
        if store.folder is not None or (folder / MANIFEST).exists():
            continue
        if store.find(f"data/{folder.name}/{MANIFEST}") is not None:
            _copy(store, folder)


def _copy(store: Store, folder: Path) -> None:
    """Copy a folder in one step. Another process of this node may do the same."""
    prefix = f"data/{folder.name}/"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
        try:
            for name in store.objects.names(prefix):
                path = partial / name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(store.objects.read(name))
            if _digest((partial / MANIFEST).read_bytes()) != folder.name:
                raise StoreError("data in the store changed", where=store.address(prefix))
            if not folder.exists():
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if (folder / MANIFEST).exists():  # another process made it
            return
        raise StoreError(
            f"data of the store cannot be copied to this machine: {error.strerror}",
            where=str(folder),
            next_command="export XDG_CACHE_HOME=FOLDER (on every node)",
        ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _cache() -> Path:
    """Return this user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().absolute() / "lotus-ray"
