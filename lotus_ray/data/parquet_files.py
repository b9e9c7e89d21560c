"""Parquet files wherever they lie: on a disk, in a bucket, on the Hugging Face hub."""

from __future__ import annotations

import base64
import fnmatch
import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from lotus_ray.errors import DataError


def open_parquet(uri: str) -> pq.ParquetFile:
    """Open a file, looking at nothing but its end.

    Raises:
        DataError: it is missing or cut off, or a column would be unpickled when read.
    """
    try:
        system, path = _filesystem(uri)
        file = system.open_input_file(path)
        _refuse_extensions(file, uri)
        return pq.ParquetFile(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"the Parquet file cannot be read: {reason}", where=uri) from error


def footer_digest(file: pq.ParquetFile) -> str:
    """Return the SHA-256 of what the end of a file says of its columns: places, sizes, extremes."""
    return hashlib.sha256(repr(file.metadata.to_dict()).encode()).hexdigest()


def list_parquet(pattern: str) -> list[str]:
    """Return the files that a path, a folder or a pattern with * names, sorted.

    Raises:
        DataError: there is none.
    """
    head, _, _ = pattern.partition("*")
    folder = head if head == pattern else head.rpartition("/")[0] or "."
    try:
        system, path = _filesystem(folder)
        info = system.get_file_info(path)
        if info.type == fs.FileType.File:
            return [pattern]
        found = system.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"the Parquet files cannot be listed: {reason}", where=pattern) from error
    prefix = folder.removesuffix(path)
    names = [prefix + item.path for item in found if item.type == fs.FileType.File]
    wanted = pattern if "*" in pattern else f"{pattern.rstrip('/')}/*.parquet"
    files = sorted(name for name in names if fnmatch.fnmatchcase(name, wanted))
    if not files:
        raise DataError("there is no Parquet file", where=pattern)
    return files


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it."""
    if uri.startswith("hf://"):
        from huggingface_hub import HfFileSystem

        return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem())), uri.removeprefix("hf://")
    if "://" in uri:
        system, path = fs.FileSystem.from_uri(uri)
        return system, path
    return fs.LocalFileSystem(), uri


def _refuse_extensions(file: pa.NativeFile, uri: str) -> None:
    """Raise DataError where a column has a type of its own: Ray's are unpickled when parsed.

    Looks for the mark of one in the raw bytes of the end, in every alignment that the encoding of
    the stored schema can give it: whatever parses the end runs what it names.
    """
    size = file.size()
    tail = file.read_at(min(8, size), max(size - 8, 0))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - 8:
        raise pa.ArrowInvalid("it is torn, or no Parquet file")
    footer = file.read_at(length, size - 8 - length)
    if any(mark in footer for mark in _MARKS):
        raise DataError(
            "a column has an Arrow extension type, which can run code when it is read",
            where=uri,
            nearest="image: struct<bytes: binary, path: string>, label: int64",
        )


def _encoded(text: bytes, shift: int) -> bytes:
    """Return the part of a base64 text that `text` alone decides, `shift` bytes after its start."""
    whole = base64.b64encode(bytes(shift) + text)
    return whole[4 if shift else 0 : -4]


_EXTENSION = b"ARROW:extension:name"
_MARKS = (_EXTENSION, *(_encoded(_EXTENSION, shift) for shift in range(3)))
