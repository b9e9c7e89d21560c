"""A prepared data set in a bucket: its manifest and index are read once, its shards in place."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.index import INDEX
from lotus_ray.data.prepared.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from lotus_ray.data.prepared.parquet import read_file


def is_address(name: str) -> bool:
    """Return True for s3://…, gs://… and the like, False for a folder."""
    return "://" in name


def read_remote(address: str, parent: Path) -> Manifest:
    """Copy manifest and index of a data set in a bucket; the copy lists the shards by address.

    Both files appear in one step each: another command may have the older index mapped into memory.

    Args:
        address: of the folder that `lotus-ray prepare` wrote, in a bucket.
        parent: the copies go into a folder there.

    Returns:
        The manifest. Its digest is that of the data set, wherever it is.

    Raises:
        DataError: there is no manifest, or it is damaged, or the bucket cannot be read.
    """
    key = hashlib.sha256(address.encode()).hexdigest()[:12]
    folder = parent / f"remote-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    content = read_file(_within(address, MANIFEST))
    if content is None:
        raise DataError(
            "no prepared data set here: manifest.json is missing",
            where=address,
            next_command="lotus-ray prepare SOURCE FOLDER   (then copy FOLDER to this address)",
        )
    with tempfile.TemporaryDirectory(prefix=".remote-", dir=parent) as scratch:
        (Path(scratch) / MANIFEST).write_bytes(content)
        try:
            manifest = read_manifest(Path(scratch))
        except DataError as error:
            raise DataError(error.what, where=_within(address, MANIFEST)) from error
        index = read_file(_within(address, INDEX))  # older versions wrote none
        if index is not None:
            (Path(scratch) / INDEX).write_bytes(index)
            (Path(scratch) / INDEX).rename(folder / INDEX)
    if manifest.is_external:
        raise DataError(
            "this manifest lists files elsewhere",
            where=address,
            next_command="name the files under `parquet:`",
        )
    shards = (replace(each, file=_within(address, each.file)) for each in manifest.shards)
    manifest = replace(manifest, directory=folder, shards=tuple(shards))
    write_manifest(manifest)
    return manifest


def _within(address: str, name: str) -> str:
    """Return the address of a file in a folder of a bucket; settings stay at the end."""
    folder, mark, settings = address.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{settings}"
