"""Files that extend others: `extends: shared/table.yaml`, or a list. Later files in it win.

A name that is no file may be that of a job that comes with lotus-ray: `extends: digits`.

Values of the file itself win over all of them. Mappings are merged key by key; other values are
replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import JobError
from lotus_ray.job import bundled
from lotus_ray.job.yaml_document import EXTENDS, Document

MAX_FILES = 50


def read_document(
    job: Path | Mapping[str, Any], on_read: Callable[[Document], object] = lambda document: None
) -> Document:
    """Read a file, or take the values of one, and read the files that it extends.

    Args:
        job: the file, or its values, whose `extends` is relative to the working directory.
        on_read: called with the document of each file before it is merged with others.

    Raises:
        JobError: a file is missing, unreadable or not YAML, or extends itself.
    """
    if isinstance(job, Mapping):
        return _extended(Document.of(job), Path(), on_read, above=(), files=[])
    return _read(bundled.find(job), on_read, above=(), files=[], where=str(job))


def _read(
    path: Path,
    on_read: Callable[[Document], object],
    above: tuple[Path, ...],
    files: list[Path],
    where: str,
) -> Document:
    """Read one file, and recursively the files that it extends.

    `above` are the files that extend this one, `files` all files so far, `where` is for errors.
    """
    files.append(path)
    try:
        document = Document(str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        similar = bundled.nearest_name(path)
        raise JobError(
            f"the job file cannot be read: {reason}",
            where=where,
            nearest=similar and f"{similar}, which comes with lotus-ray",
            next_command="lotus-ray list jobs" if similar else f"ls {path.parent}",
        ) from error
    return _extended(document, path.parent, on_read, (*above, _resolved(path, where)), files)


def _extended(
    document: Document,
    folder: Path,
    on_read: Callable[[Document], object],
    above: tuple[Path, ...],
    files: list[Path],
) -> Document:
    """Merge into a document the files that it extends, which lie relative to a folder."""
    on_read(document)
    for name in _bases(document):
        base = Path(folder, name)
        base = base if base.is_file() else bundled.files().get(name, base)
        where = f"{document.where((EXTENDS,))}: {base}"
        if _resolved(base, where) in above or len(files) > MAX_FILES:
            raise JobError("a file extends itself, or too many others", where=where)
        document.merge(_read(base, on_read, above, files, where))
    return document


def _bases(document: Document) -> list[str]:
    """Remove `extends` from a document; return its file names, the strongest first."""
    if not isinstance(document.values, dict) or EXTENDS not in document.values:
        return []
    value = document.values.pop(EXTENDS) or []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise JobError("extends is a file name or a list of them", where=document.where((EXTENDS,)))
    return names[::-1]


def _resolved(path: Path, where: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise JobError(f"the path cannot be resolved: {error}", where=where) from error
