"""YAML -> plain values with the line of each: a safe loader that refuses duplicates and bombs.

A file may extend others: `extends: shared/table.yaml`, or a list of which the later ones win. What
it says itself wins over all of them. Mappings are merged key by key, anything else is replaced.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lotus_ray.base.errors import JobError

MAX_NODES = 10_000
MAX_DEPTH = 50
MAX_FILES = 50
EXTENDS = "extends"
SHORTHANDS = {"model": ("grid", "models"), "dataset": ("grid", "datasets")}  # each entry of these
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
Path_ = tuple[str | int, ...]


class Document:
    """The values of a YAML file, and where each of them stands."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._lines: dict[Path_, str] = {}
        self._nodes = 0
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.values: Any = self._value(node, ()) if node else {}
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self._syntax(error) from error

    @classmethod
    def read(
        cls, path: Path, on_read: Callable[[Document], None] = lambda document: None
    ) -> Document:
        """Read a file and what it extends.

        Args:
            path: the file.
            on_read: called with each document before the ones that it extends are merged into it.

        Raises:
            JobError: one is missing, unreadable or no YAML, or extends itself.
        """
        return cls._read(path, on_read, above=(), files=[], named_at=str(path))

    @classmethod
    def _read(
        cls,
        path: Path,
        on_read: Callable[[Document], None],
        above: tuple[Path, ...],
        files: list[Path],
        named_at: str,
    ) -> Document:
        files.append(path)
        try:
            document = cls(str(path), path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise JobError(
                f"the job file cannot be read: {reason}",
                where=named_at,
                next_command=f"ls {path.parent}",
            ) from error
        above = (*above, _resolved(path, named_at))
        on_read(document)
        for name in document._bases():
            base = Path(path.parent, name)
            where = f"{document.where((EXTENDS,))}: {base}"
            if _resolved(base, where) in above or len(files) > MAX_FILES:
                raise JobError("a file extends itself, or too many others", where=where)
            document._inherit(cls._read(base, on_read, above, files, where))
        return document

    def _bases(self) -> list[str]:
        """Take out the names of the files that this one extends, the strongest first."""
        if not isinstance(self.values, dict) or EXTENDS not in self.values:
            return []
        found = self.values.pop(EXTENDS) or []
        names = [found] if isinstance(found, str) else found
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise JobError("extends is a file name or a list of them", where=self.where((EXTENDS,)))
        return names[::-1]

    def _inherit(self, base: Document) -> None:
        """Take over what another document says and this one does not."""
        if not isinstance(self.values, dict) or not isinstance(base.values, dict):
            raise JobError("only mappings can be extended", where=f"{self.file} and {base.file}")
        self._merge(self.values, base.values, (), base)

    def count(self, path: Path_) -> int:
        """Return how many items the list at `path` has; 0 where there is none."""
        found = self._at(path)
        return len(found) if isinstance(found, list) else 0

    def has(self, path: Path_) -> bool:
        """Return whether there is a value at `path`."""
        return self._at(path) is not None

    def contains(self, path: Path_) -> bool:
        """Return True if the mapping that holds `path` has its last key, whatever the value."""
        parent = self._at(path[:-1])
        return isinstance(parent, dict) and path[-1] in parent

    def rename(self, old: Path_, new: Path_) -> None:
        """Move the value at `old` to `new`; it keeps its file and line."""
        value = self._at(old[:-1]).pop(old[-1])
        self._put(new, value)
        self._lines = {p: line for p, line in self._lines.items() if p[: len(new)] != new}
        self._take_lines(new, self, old)

    def fill(self, path: Path_, defaults: Path_, without: Sequence[str] = ()) -> None:
        """Give the mapping at `path` the keys of the mapping at `defaults` that it lacks."""
        ours, theirs = self._at(path), self._at(defaults)
        for key in theirs if isinstance(ours, dict) and isinstance(theirs, dict) else ():
            if key not in ours and key not in without:
                ours[key] = copy.deepcopy(theirs[key])
                self._take_lines((*path, key), self, (*defaults, key))

    def _at(self, path: Path_) -> Any:
        """Return the value at `path`, or None."""
        value = self.values
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def _merge(
        self, ours: dict[str, Any], theirs: dict[str, Any], path: Path_, base: Document
    ) -> None:
        for key, value in theirs.items():
            below = (*path, key)
            if key not in ours:
                ours[key] = value
                self._take_lines(below, base, below)
            elif isinstance(value, dict) and isinstance(ours[key], dict):
                self._merge(ours[key], value, below, base)

    def _take_lines(self, path: Path_, other: Document, at: Path_) -> None:
        """Say of the values at `path` that they stand where another document has those at `at`."""
        found = [(p, line) for p, line in other._lines.items() if p[: len(at)] == at]
        nearest = at
        while not found and nearest and nearest not in other._lines:
            nearest = nearest[:-1]
        if not found and nearest:  # it was given as a part of something larger
            found = [(at, other._lines[nearest])]
        self._lines.update({(*path, *p[len(at) :]): line for p, line in found})

    def override(self, assignment: str) -> None:
        """Set one value, written `a.b=c` with c in YAML; numbers count the items of a list.

        `model.b=c` sets b of every entry of grid.models, `dataset.b=c` of every data set.
        """
        name, found, text = assignment.partition("=")
        keys = [
            int(key) if key.isdecimal() else key
            for key in re.sub(r"\[(\d+)\]", r".\1", name).split(".")
        ]
        if not found or not name or keys[0] == EXTENDS:
            raise JobError(
                f"'{assignment}' is not of the form a.b=value",
                where="--set",
                next_command="lotus-ray grid JOB.yaml --set grid.seeds=[13]",
            )
        try:
            for path in self._meant(tuple(keys)):
                self._put(path, Document("--set", text).values if text else None)
                self._lines = {p: at for p, at in self._lines.items() if p[: len(path)] != path}
                self._lines[path] = f"--set {assignment}"
        except (KeyError, IndexError, TypeError) as error:
            raise JobError(
                f"'{name}' leads nowhere in {self.file}", where=f"--set {assignment}"
            ) from error

    def _meant(self, keys: Path_) -> list[Path_]:
        """Return the places that the keys of an override mean: several for a shorthand."""
        if keys[0] not in SHORTHANDS or len(keys) == 1:
            return [keys]
        entries = SHORTHANDS[keys[0]]
        if not self.count(entries):
            raise KeyError(dotted(entries))
        return [(*entries, place, *keys[1:]) for place in range(self.count(entries))]

    def _put(self, path: Path_, value: Any) -> None:
        parent = self.values
        for key in path[:-1]:
            if isinstance(parent, dict) and parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
        parent[path[-1]] = value

    def where(self, path: Sequence[str | int]) -> str:
        """Return `file:line a.b[2]` of the value at `path`, or of what should contain it."""
        known = tuple(path)
        while known and known not in self._lines:
            known = known[:-1]
        place = self._lines.get(known, self.file)
        return place if place.startswith("--set") else f"{place} {dotted(path)}".strip()

    def _value(self, node: yaml.Node, path: Path_) -> Any:
        self._nodes += 1
        line = f"{self.file}:{node.start_mark.line + 1}"
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise JobError("the file expands to too many values", where=line)
        self._lines.setdefault(path, line)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise JobError(f"the tag {node.tag} is refused", where=f"{line} {dotted(path)}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, place)) for place, item in enumerate(node.value)]
        value = yaml.SafeLoader("").construct_object(node)
        if isinstance(value, str) and _CONTROL.search(value):
            raise JobError("a text holds a control character", where=f"{line} {dotted(path)}")
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = f"{self.file}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise JobError("a key must be a plain word", where=line)
            key = str(key_node.value)
            if key in values:
                raise JobError(
                    f"duplicate key '{key}'",
                    where=f"{line} {dotted((*path, key))}",
                    next_command=f"remove one of the two; lotus-ray validate {self.file}",
                )
            self._lines[(*path, key)] = line
            values[key] = self._value(value_node, (*path, key))
        return values

    def _syntax(self, error: Exception) -> JobError:
        mark = getattr(error, "problem_mark", None)
        return JobError(
            f"this is not YAML: {getattr(error, 'problem', None) or error}",
            where=f"{self.file}:{mark.line + 1}" if mark else self.file,
            next_command="mend that place and run the same command again",
        )


def _resolved(path: Path, where: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise JobError(f"the path leads nowhere: {error}", where=where) from error


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as `grid.methods[2]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")
