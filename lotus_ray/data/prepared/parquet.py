"""Parquet files on a disk, in a bucket, or on the Hugging Face hub."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.class_folders import is_image


def open_parquet(uri: str) -> pq.ParquetFile:
    """Open a file; only its footer is read.

    Raises:
        DataError: the file is missing or torn, or reading a column would unpickle it.
    """
    with reading(uri):
        file = open_file(uri)
        _refuse_extensions(file, uri)
        return pq.ParquetFile(file)


def open_file(uri: str) -> pa.NativeFile:
    """Open a file of any file system that `open_parquet` reads, to read it at random."""
    system, path = _filesystem(uri)
    return system.open_input_file(path)


def read_file(uri: str) -> bytes | None:
    """Return the content of a file, or None if there is none.

    Raises:
        DataError: the file system refuses, or does not answer.
    """
    with reading(uri, "the file cannot be read"):
        system, path = _filesystem(uri)
        if system.get_file_info(path).type == fs.FileType.NotFound:
            return None
        with system.open_input_stream(path) as file:
            content: bytes = file.read()
            return content


@contextmanager
def reading(uri: str, what: str = "the Parquet file cannot be read") -> Iterator[None]:
    """Turn an error of Arrow or of the file system into a DataError of one line.

    Args:
        uri: address of the file, for the error.
        what: went wrong, for the error.

    Raises:
        DataError: the block raised such an error.
    """
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{what}: {reason}", where=uri) from error


def footer_digest(file: pq.ParquetFile) -> str:
    """Return the SHA-256 of a file's footer: offsets, sizes and extremes of its columns."""
    return hashlib.sha256(repr(file.metadata.to_dict()).encode()).hexdigest()


def list_parquet(pattern: str) -> list[str]:
    """Return the sorted addresses of Parquet files.

    Args:
        pattern: a file, a folder, or a pattern with *. Any file system that `open_parquet` reads.

    Raises:
        DataError: there is no such file, or the folder cannot be listed.
    """
    address, mark, query = pattern.partition("?") if "://" in pattern else (pattern, "", "")
    head, star, tail = address.partition("*")
    folder = (head.rpartition("/")[0] or ".") if star else address.rstrip("/") or "/"
    with reading(pattern, "the Parquet files cannot be listed"):
        system, path = _filesystem(folder + mark + query)
        if system.get_file_info(path).type == fs.FileType.File:
            return [pattern]
        result = system.get_file_info(fs.FileSelector(path, recursive=True))
    # `folder` may contain characters as %XX; the file system uses the decoded `path`.
    rest = f"{head[len(folder) + 1 :] if folder != '.' else head}*{tail}" if star else "*.parquet"
    start = "" if path == "." else f"{path.rstrip('/')}/"
    wanted = re.compile(re.escape(start) + ".*".join(re.escape(part) for part in rest.split("*")))
    names = [i.path for i in result if i.type == fs.FileType.File]
    files = sorted(
        _address(folder, name) + mark + query
        for name in names
        if wanted.fullmatch(name.removeprefix("./"))
    )
    if not files:
        images = sum(map(is_image, names))
        raise DataError(
            "there is no Parquet file" + (f", but {images:,} images are there" if images else ""),
            where=pattern,
            next_command=f"lotus-ray prepare image_folder data/NAME --root {folder}; then "
            "manifest: data/NAME in place of parquet"
            if images
            else "",
        )
    return files


def same_bytes(first: str, second: str) -> bool:
    """Return True if two files hold the same bytes.

    Raises:
        DataError: a file cannot be read.
    """
    if first == second:
        return True
    with reading(f"{first} or {second}"), open_file(first) as one, open_file(second) as other:
        if one.size() != other.size():
            return False
        while part := one.read(_PART):
            if part != other.read(_PART):
                return False
    return True


def base_name(uri: str) -> str:
    """Return the last part of an address, without its settings."""
    return (uri.partition("?")[0] if "://" in uri else uri).rsplit("/", 1)[-1]


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it.

    Credentials and server of a bucket come from the environment: AWS_ACCESS_KEY_ID,
    AWS_ENDPOINT_URL. An address can also name a server: ?endpoint_override=….

    Raises:
        DataError: the address holds a password.
    """
    if uri.startswith("hf://"):
        from huggingface_hub import HfFileSystem

        return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem())), uri.removeprefix("hf://")
    if "://" in uri:
        _refuse_password(uri)
        system, path = fs.FileSystem.from_uri(uri)
        return system, path
    return fs.LocalFileSystem(), uri


def _refuse_password(uri: str) -> None:
    """Raise DataError if an address holds a password: addresses are written to records."""
    scheme, _, rest = uri.partition("://")
    authority = rest.partition("?")[0].partition("/")[0]
    user, _, _ = authority.rpartition("@")
    # A secret may hold a slash: then the bucket seems to end there. No bucket has a colon.
    if ":" in user or (scheme in ("s3", "gs") and ":" in authority):
        raise DataError(
            "an address of data holds a password",
            where=f"{scheme}://***",
            next_command="remove it; export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
        )


def _address(folder: str, path: str) -> str:
    """Return the address of a path in a folder."""
    scheme, mark, _ = folder.partition("://")
    if not mark or scheme == "hf":
        return f"{scheme}://{path}" if mark else path.removeprefix("./")
    return f"{scheme}://{quote(path)}"


def _refuse_extensions(file: pa.NativeFile, uri: str) -> None:
    """Raise DataError if a column has an Arrow extension type: Ray unpickles those when parsed.

    Parsing the footer would already run their code. So this searches the raw bytes of the footer
    for the marker of such a type, in every alignment of the schema's base64 encoding.
    """
    size = file.size()
    tail = file.read_at(min(8, size), max(size - 8, 0))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - 8:
        if file.read_at(min(len(_LFS), size), 0) == _LFS:
            raise DataError(
                "this file stands for another one, which git-lfs has not fetched",
                where=uri,
                next_command="git lfs pull   (in that folder)",
            )
        raise pa.ArrowInvalid("it is torn, or no Parquet file")
    footer = file.read_at(length, size - 8 - length)
    if any(mark in footer for mark in _MARKS):
        raise DataError(
            "a column has an Arrow extension type, which can run code when it is read",
            where=uri,
            nearest="image: struct<bytes: binary, path: string>, label: int64",
        )


def _encoded(text: bytes, shift: int) -> bytes:
    """Return the base64 of `text` at `shift` bytes, without the ends that depend on neighbours."""
    padded = base64.b64encode(bytes(shift) + text)
    return padded[4 if shift else 0 : -4]


_LFS = b"version https://git-lfs"
_PART = 8 << 20  # bytes that are compared at once
_EXTENSION = b"ARROW:extension:name"
_MARKS = (_EXTENSION, *(_encoded(_EXTENSION, shift) for shift in range(3)))
