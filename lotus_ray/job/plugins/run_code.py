"""Import the source of a plug-in from its text, here and on every worker."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.plugins import FILE, Code, PluginError
from lotus_ray.job.plugins.read_code import code_of_module

_digests: dict[str, str] = {}  # of what was imported, by the name that Python knows it by


class _Text(SourceLoader):
    """Loads one module from its text."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._text = text

    def get_filename(self, fullname: str) -> str:
        """Return the path that tracebacks show."""
        return self._path

    def get_data(self, path: str) -> bytes:
        """Return the text. There are no files of bytecode."""
        if path != self._path:
            raise OSError("no such file")
        return self._text.encode()


class _Finder(MetaPathFinder):
    """Finds the modules of plug-ins by name, before Python looks at its folders."""

    def __init__(self) -> None:
        self.modules: dict[str, _Text] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module of a name, or None if it is of no plug-in."""
        loader = self.modules.get(fullname)
        return None if loader is None else importlib.util.spec_from_loader(fullname, loader)


_finder = _Finder()


def import_code(code: Code, name: str) -> ModuleType:
    """Import a module of a plug-in, once for each digest: the text that was read.

    A package that is installed here with the same source is imported from there: it may have files
    of other kinds. What it prints goes to stderr: a command's stdout is data.

    Args:
        code: of the plug-in.
        name: of the module.

    Raises:
        PluginError: it cannot be imported. The text says which line of which file fails.
    """
    known = _digests.get(code.top)
    if known not in (None, code.digest) or (known is None and _is_imported(code)):
        raise PluginError(
            "the source of the package has changed since this process imported it",
            where=code.origin,
            next_command="start Python again",
        )
    if known is None and not _is_here(code):
        _offer_texts(code)
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        _forget(code)
        raise _failed(code, error) from error
    _digests[code.top] = code.digest
    return module


def _is_imported(code: Code) -> bool:
    """Return True if Python has another package of this name already."""
    is_file = FILE in code.files  # whose name holds its digest
    return not is_file and code.top in sys.modules and not _is_here(code)


def _is_here(code: Code) -> bool:
    """Return True if Python would find the same source by itself."""
    if FILE in code.files:
        return False
    try:
        return code_of_module(code.top).digest == code.digest
    except LotusRayError:
        return False


def _offer_texts(code: Code) -> None:
    """Let the finder find the modules of a plug-in."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for name, text in code.files.items():
        dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if name == FILE:
            _finder.modules[code.top] = _Text(code.origin, text)
        else:
            _finder.modules[dotted] = _Text(_shown(code, name), text)


def _shown(code: Code, name: str) -> str:
    """Return the path of a file for tracebacks: the real one, where the origin is a folder."""
    folder = Path(code.origin)
    return str(folder.resolve().parent / name) if folder.is_dir() else name


def _forget(code: Code) -> None:
    """Remove what a failed import has left. The next import of the package begins anew."""
    _digests.pop(code.top, None)
    for name in [*sys.modules, *_finder.modules]:
        if name == code.top or name.startswith(f"{code.top}."):
            sys.modules.pop(name, None)
            _finder.modules.pop(name, None)


def _failed(code: Code, error: BaseException) -> LotusRayError:
    """Return the error of a failed import, with its file and line."""
    if isinstance(error, LotusRayError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    inside = [frame for frame in own if _is_of(code, frame.filename)]
    where = f"{inside[-1].filename}:{inside[-1].lineno}" if inside else code.origin
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    text = str(error.msg if isinstance(error, SyntaxError) else error).splitlines()
    what = ": ".join([type(error).__name__, *text[:1]])
    return PluginError(
        f"the plug-in {code.origin} cannot be imported: {what}",
        where=where,
        next_command=f"install {error.name} here and on every node, or make the plug-in a package"
        if isinstance(error, ModuleNotFoundError)
        else f"correct it; python -m py_compile {where.rpartition(':')[0] or code.origin}",
    )


def _is_of(code: Code, file: str) -> bool:
    """Return True if a file of a traceback is one of the plug-in's."""
    return file == code.origin or any(
        file == name or file.endswith(f"/{name}") for name in code.files if name != FILE
    )
