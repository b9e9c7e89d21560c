"""Read the source of a plug-in: of a file, a folder that is a package, or a module."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from lotus_ray.base.plugins import FILE, Code, PluginError

MAX_BYTES = 4 << 20  # of source that goes to every worker


def is_path(name: str) -> bool:
    """Return True if an import names a file or folder. Otherwise it names a module."""
    return name.endswith(".py") or "/" in name or name in (".", "..")


def read_code(name: str) -> tuple[Code, str]:
    """Read the source of an import.

    Args:
        name: a file `x.py`, a folder `./x` with an `__init__.py`, or a module: `x` or `x.y`.

    Returns:
        The code, and the module to import.

    Raises:
        PluginError: there is no such file or module, or it is too large.
    """
    if not is_path(name):
        return code_of_module(name), name
    code = _code_of_path(Path(name))
    return code, code.top


def code_of_module(name: str, origin: str = "") -> Code:
    """Read the source of the package that a module belongs to. The module is not imported.

    Args:
        name: of the module, with its package.
        origin: for messages; default: the name.

    Raises:
        PluginError: there is no such module, it has no source, or it is too large.
    """
    origin = origin or name
    top = name.partition(".")[0]
    spec = _spec(top, origin)
    if spec is None or not all(part.isidentifier() for part in name.split(".")):
        raise PluginError(
            f"there is no module '{name}' to import",
            where=origin,
            nearest=f"{name}.py" if Path(f"{name}.py").exists() else "",
            next_command=f"pip install its package, or --import {top}.py for a file",
        )
    if spec.submodule_search_locations:
        files = {
            f"{top}/{path.relative_to(folder).as_posix()}": path
            for folder in map(Path, spec.submodule_search_locations)
            for path in _python_files(folder)
        }
    else:
        file = f"{top}.py"  # a module of the name `plugin` is kept as a package: see FILE
        file = f"{top}/__init__.py" if file == FILE else file
        files = {file: Path(spec.origin or "")}
    return Code(origin, _texts(files, origin))


def notes_on_other_files(names: Iterable[str]) -> list[str]:
    """Return a line for each package with files that are no Python: a change of them is not seen.

    Args:
        names: of imports that `read_code` has read.
    """
    notes = []
    for name in dict.fromkeys(names):
        others = [file for folder in _folders(name) for file in _other_files(folder)]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            notes.append(
                f"{name} has files that are no Python ({others[0]}{more}): they are no part of the "
                "cells' identity, and do not go to other machines"
            )
    return notes


def _folders(name: str) -> list[Path]:
    """Return the folders of an import; none of a single file."""
    if is_path(name):
        return [path] if (path := Path(name)).is_dir() else []
    spec = _spec(name.partition(".")[0], name)
    return [Path(each) for each in (spec and spec.submodule_search_locations) or ()]


def _other_files(folder: Path) -> list[str]:
    """Return the files below a folder that are neither Python, nor compiled, nor hidden."""
    below = ((path, path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    return [
        inside.as_posix()
        for path, inside in below
        if path.suffix not in (".py", ".pyc", ".pyi")
        and inside.name != "py.typed"
        and not any(part.startswith(".") for part in inside.parts)
        and path.is_file()
    ]


def _spec(top: str, origin: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError) as error:
        raise PluginError(f"the module cannot be found: {error}", where=origin) from error


def _code_of_path(path: Path) -> Code:
    """Read a file, or a folder that is a package."""
    where = str(path)
    if path.is_dir():
        package = path.resolve()
        if not (package / "__init__.py").exists():
            raise PluginError(
                "the folder is no package: it has no __init__.py",
                where=where,
                nearest=next(map(str, sorted(path.glob("*.py"))), ""),
                next_command=f"--import {path}/FILE.py, or touch {path}/__init__.py",
            )
        name = package.name
        files = {
            f"{name}/{file.relative_to(package).as_posix()}": file
            for file in _python_files(package)
        }
        return Code(where, _texts(files, where))
    return Code(where, _texts({FILE: path}, where))


def _python_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*.py") if path.is_file())


def _texts(files: dict[str, Path], origin: str) -> dict[str, str]:
    """Read files.

    Raises:
        PluginError: one is missing or no UTF-8, or all of them are too large.
    """
    texts = {}
    for name, path in files.items():
        try:
            texts[name] = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise PluginError(
                f"the plug-in cannot be read: {reason}",
                where=str(path),
                next_command=f"ls {path.parent}",
            ) from error
    if sum(map(len, texts.values())) > MAX_BYTES:
        raise PluginError(
            f"the package has more than {MAX_BYTES >> 20} MiB of Python, "
            "which would go to every worker",
            where=origin,
            next_command="put the plug-in into a file or a package of its own, which imports this",
        )
    return texts
