"""Objects as files of a local or shared folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lotus_ray.base.errors import StoreError
from lotus_ray.base.folders import files_under
from lotus_ray.store.objects.errors import reads_back_differently


class LocalObjects:
    """A folder on a local or POSIX-like shared disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError."""
        path = self.root / name
        with _reading(path):
            return path.read_bytes()

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Return bytes of an object; raises FileNotFoundError."""
        path = self.root / name
        with _reading(path), path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def create(self, name: str, content: bytes) -> bool:
        """Create an object: link a finished temporary file to its name."""
        path = self.root / name
        with self._finished(path, content) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                # A network disk may lose the reply and repeat the request: then the file is ours.
                return path.samefile(temporary)
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Create or replace an object in one step."""
        path = self.root / name
        with self._finished(path, content) as temporary:
            temporary.replace(path)

    def replace_proven(self, name: str, content: bytes) -> None:
        """Write an object, then read it back and compare it byte by byte."""
        self.replace(name, content)
        if self.read(name) != content:
            raise reads_back_differently(str(self.root / name))

    def delete_all(self, prefix: str) -> None:
        """Remove a folder, and with it temporary files of killed writers; or a file."""
        if (self.root / prefix).is_file():
            with suppress(OSError):
                (self.root / prefix).unlink()
        shutil.rmtree(self.root / prefix, ignore_errors=True)

    def etag(self, name: str) -> str | None:
        """Return the inode, time and size of a file: a replaced file has another inode."""
        path = self.root / name
        try:
            with _reading(path):
                found = path.stat()
        except FileNotFoundError:
            return None
        return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names under a folder, without temporary files."""
        return list(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of files under a folder, by name, without temporary files."""
        folder = self.root / prefix
        sizes = {}
        with _reading(folder):
            for path in files_under(folder):
                if path.name.startswith("."):
                    continue
                with suppress(FileNotFoundError, NotADirectoryError):  # it was removed
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        sizes[path.relative_to(self.root).as_posix()] = status.st_size
        return dict(sorted(sizes.items()))

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of the folders directly in `prefix`, each with its slash."""
        folder = self.root / prefix
        with _reading(folder):
            paths = folder.iterdir() if folder.is_dir() else ()
            return sorted(f"{prefix}{path.name}/" for path in paths if path.is_dir())

    @contextmanager
    def _finished(self, path: Path, content: bytes) -> Iterator[Path]:
        """Yield a finished temporary file beside `path`, then flush the folder to disk."""
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise _cannot_write(path, len(content), error) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise FileNotFoundError if there is nothing at a path, StoreError for any other error.

    Other errors are missing permission, a broken disk, or a network disk that went away.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # there is a file where the path has a folder
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        raise StoreError(
            f"the store cannot be read: {error.strerror}",
            where=str(path),
            next_command="run the same command again once it can be read: rows are kept",
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, needed: int, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = f"the disk is full; {needed} bytes are needed" if full else error.strerror
    return StoreError(
        f"the store cannot be written: {what}",
        where=str(path),
        next_command="lotus-ray grid JOB.yaml --store FOLDER",
    )
