"""Remove from a store what it keeps of the images of a request. The record stays where it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from lotus_ray.base.errors import StoreError, nearest
from lotus_ray.store.results import Store

IMAGES, FOLDERS = "images-", "folders-"  # what a request without a job makes beside its store
MANIFEST = "manifest.json"  # of such images
REQUESTS = "requests/"  # <request id>.json: digests of tables of roles, folders of images


def note_request(store: Store, request_id: str, roles: str, images: Path | None) -> None:
    """Write to a store what belongs to a request, so that it can be purged.

    A store may have had a request of this name before: then both are purged by it.

    Args:
        store: of the run.
        request_id: of the record.
        roles: digest of the table of roles.
        images: folder of the shards that were made for this request, if there is one.
    """
    note = _note(store, request_id)
    place = images and (images if store.folder is None else os.path.relpath(images, store.folder))
    for name, value in (("roles", roles), ("images", place and str(place))):
        if value and value not in note[name]:
            note[name].append(value)
    store.replace(request_file(request_id), json.dumps(note).encode())


def _note(store: Store, request_id: str) -> dict[str, list[str]]:
    """Return what is kept of the requests of a name: digests of roles and weights, and places."""
    note = json.loads(store.find(request_file(request_id)) or b"{}")
    note = {name: [value] if isinstance(value, str) else value for name, value in note.items()}
    return {name: note.get(name, []) for name in ("roles", "images", "cells", "weights")}


def _forget_note(store: Store, request_id: str, purged: Sequence[str]) -> None:
    """Remove the note of a request, but for what it says of other runs than the purged ones."""
    note = _note(store, request_id)
    note["roles"] = [each for each in note["roles"] if each not in purged]
    if note["roles"]:
        store.replace(request_file(request_id), json.dumps(note).encode())
    else:
        _empty(store, request_file(request_id))


def request_file(request_id: str) -> str:
    """Return the name of the file in a store that says which cells belong to a request."""
    return f"{REQUESTS}{request_id}.json"


def purge(store: Store, request_id: str) -> list[str]:
    """Remove ids, outputs, checkpoints, weights and logits of the cells of a request.

    The decoded images that nodes of a cluster share go too, all of them.

    Other requests of the same run share them, and are purged with it.

    Args:
        store: of the run.
        request_id: of the record.

    Returns:
        A line for each kind of thing that was removed.

    Raises:
        StoreError: there is no such request here, or the store cannot be written.
    """
    content = store.find(request_file(request_id))
    known = [
        name.removeprefix(REQUESTS).removesuffix(".json") for name in store.objects.names(REQUESTS)
    ]
    if not content:
        raise StoreError(
            f"there is no request '{request_id}' here",
            where=store.uri,
            nearest=nearest(request_id, known) if known else "",
        )
    note = _note(store, request_id)
    rows = [row for row in store.rows().values() if row.spec.get("roles") in note["roles"]]
    note["cells"] = sorted({*note["cells"], *(row.cell_id for row in rows)})
    digests = (artifact.sha256 for row in rows for artifact in row.artifacts.values())
    note["weights"] = sorted({*note["weights"], *digests})
    # A purge that is stopped after it removed the rows goes on by this.
    store.replace(request_file(request_id), json.dumps(note).encode())
    logits = [
        folder
        for folder in store.folders("logits/")
        if _weights_of(store, folder) in note["weights"]
    ]
    for kind in ("rows", "attempts", "borders"):  # the rows first: what they name is theirs
        for cell in note["cells"]:
            store.remove_all(f"{kind}/{cell}/")
    for folder in logits:
        store.remove_all(folder)
    for digest in note["roles"]:
        _empty(store, f"roles/{digest}.parquet")
    for name in ("report.html", "outcome.json"):  # they may name images
        _empty(store, name)
    store.remove_all("pixels/")
    if not store.rows():  # manifests and indexes of images that are read where they lie
        store.remove_all("data/")
    images = [line for place in note["images"] for line in _remove_images(store, place)]
    if left := [cell for cell in note["cells"] if store.objects.names(f"attempts/{cell}/")]:
        raise StoreError("some files could not be removed", where=store.address(left[0]))
    same = [each for each in known if set(_note(store, each)["roles"]) & set(note["roles"])]
    for each in same:
        _forget_note(store, each, note["roles"])
    return [
        f"{len(note['cells'])} rows, with weights, outputs for each image and checkpoints",
        f"{len(logits)} sets of logits",
        f"the ids of the requests {', '.join(same)}",
        *images,
    ]


def _remove_images(store: Store, place: str) -> list[str]:
    """Remove the shards that were made for a request. Say what was removed, or is not here."""
    folder = Path(os.path.normpath((store.folder or Path()) / place))
    if not (folder.name.startswith(IMAGES) and (folder / MANIFEST).is_file()):
        return []
    links = folder.parent / folder.name.replace(IMAGES, FOLDERS, 1)
    try:
        shutil.rmtree(folder)
        shutil.rmtree(links, ignore_errors=True)  # links to the folders that were given
    except OSError as error:
        raise StoreError(
            f"copies of the images could not be removed: {error.strerror}", where=str(folder)
        ) from error
    return ["the copies of all images that the run was given"]


def _weights_of(store: Store, folder: str) -> str | None:
    """Return the SHA-256 of the weights that a set of logits was computed by."""
    content = store.find(f"{folder}complete.json")
    try:
        return str(json.loads(content or b"")["key"]["weights"])
    except (ValueError, KeyError, TypeError):
        return None


def _empty(store: Store, name: str) -> None:
    """Remove a file, if there is one. In a bucket, an empty object stays."""
    if store.find(name) is not None:
        store.replace(name, b"")
        store.remove_all(name)
