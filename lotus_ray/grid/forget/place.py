"""The output folder: checked before the run, and written in one step after it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lotus_ray.audit.folder import RECORD, Record, read_record
from lotus_ray.audit.verify import check_files
from lotus_ray.base.errors import JobError
from lotus_ray.grid.forget.wish import Wish


def earlier_answer(wish: Wish) -> Record | None:
    """Return the record that is at the output already, passed or failed; None if there is none.

    Raises:
        JobError: something else is there, or nothing can be written there.
        RecordError: the record there is damaged.
    """
    for folder in (wish.output, wish.failed):
        if (folder / RECORD).exists():
            record = read_record(folder)
            for finding in check_files(record):
                if finding.error:
                    raise finding.error
            return record
    for folder in (wish.output, wish.failed):
        if folder.exists() or folder.is_symlink():
            raise JobError(
                "the output exists and holds no record",
                where=str(folder),
                next_command=f"choose another --output than {wish.output}",
            )
    _check_writable(wish.output)
    return None


def _check_writable(output: Path) -> None:
    """Raise JobError if the folder of the output cannot be written. Leave nothing there."""
    parent = output.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".forget-", dir=parent):
            pass
    except OSError as error:
        raise JobError(
            f"the output cannot be written: {error.strerror}",
            where=str(output),
            next_command="choose another --output",
        ) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a folder that does not exist yet. It appears in one step.

    Args:
        folder: to create.
        files: contents by name; a name may have a folder.

    Raises:
        JobError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.parent / f".{folder.name}.partial"
        partial.mkdir(exist_ok=True)
        with _alone_in(partial, folder):
            for each in partial.iterdir():  # of a command that was killed
                shutil.rmtree(each) if each.is_dir() else each.unlink()
            for name, content in files.items():
                (partial / name).parent.mkdir(exist_ok=True)
                with (partial / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            partial.rename(folder)
    except OSError as error:
        raise JobError(
            f"the output cannot be written: {error.strerror}",
            where=str(folder),
            next_command="run the same command again: what it computed is kept",
        ) from error


@contextlib.contextmanager
def _alone_in(partial: Path, folder: Path) -> Iterator[None]:
    """Keep other commands from writing to a folder, and remove it if it is left.

    Raises:
        JobError: another command writes to it.
    """
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobError(
                "another command writes this output now",
                where=str(folder),
                next_command="wait for it, and run the same command again",
            ) from error
        try:
            yield
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(descriptor)
