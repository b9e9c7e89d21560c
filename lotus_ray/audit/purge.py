"""Remove from a store what it keeps of the images of a request. The record stays where it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from lotus_ray.base.errors import StoreError, nearest
from lotus_ray.store.results import Store

IMAGES, FOLDERS = "images-", "folders-"  # what a request without a job makes beside its store
MANIFEST = "manifest.json"  # of such images
REQUESTS = "requests/"  # <request id>.json: the digest of its table of roles


def request_note(store: Store, roles: str, images: Path | None) -> bytes:
    """Return what a store keeps about a request, so that it can be purged.

    Args:
        store: of the run.
        roles: digest of the table of roles.
        images: folder of the shards that were made for this request, if there is one.
    """
    if images is None:
        return json.dumps({"roles": roles}).encode()
    place = images if store.folder is None else os.path.relpath(images, store.folder)
    return json.dumps({"roles": roles, "images": str(place)}).encode()


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
    if content is None:
        raise StoreError(
            f"there is no request '{request_id}' here",
            where=store.uri,
            nearest=nearest(request_id, known) if known else "",
        )
    digest = json.loads(content)["roles"]
    rows = [row for row in store.rows().values() if row.spec.get("roles") == digest]
    weights = {artifact.sha256 for row in rows for artifact in row.artifacts.values()}
    logits = [
        folder for folder in store.folders("logits/") if _weights_of(store, folder) in weights
    ]
    for row in rows:  # the rows first: what they name is theirs
        store.remove_all(f"rows/{row.cell_id}/")
    for row in rows:
        store.remove_all(f"attempts/{row.cell_id}/")
        store.remove_all(f"borders/{row.cell_id}/")
    for folder in logits:
        store.remove_all(folder)
    _empty(store, f"roles/{digest}.parquet")
    for name in ("report.html", "outcome.json"):  # they may name images
        _empty(store, name)
    same = [each for each in known if _roles_of(store, each) == digest]
    for each in same:
        _empty(store, request_file(each))
    store.remove_all("pixels/")
    if not store.rows():  # manifests and indexes of images that are read where they lie
        store.remove_all("data/")
    images = _remove_images(store, json.loads(content).get("images"))
    if left := [row.cell_id for row in rows if store.objects.names(f"attempts/{row.cell_id}/")]:
        raise StoreError("some files could not be removed", where=store.address(left[0]))
    return [
        f"{len(rows)} rows, with weights, outputs for each image and checkpoints",
        f"{len(logits)} sets of logits",
        f"the ids of the requests {', '.join(same)}",
        *images,
    ]


def _remove_images(store: Store, place: str | None) -> list[str]:
    """Remove the shards that were made for a request. Say what was removed, or is not here."""
    if place is None:
        return []
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


def _roles_of(store: Store, request_id: str) -> str:
    content = store.find(request_file(request_id))
    return str(json.loads(content)["roles"]) if content else ""


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
