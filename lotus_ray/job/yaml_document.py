"""A YAML document whose values know their file and line. They can be merged and overridden."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from lotus_ray.base.errors import JobError
from lotus_ray.job.yaml_values import KeyPath, dotted, parse

IN_PYTHON = "JOB"  # stands for the file of a job that is none
EXTENDS = "extends"  # read with the file: an override would come too late
SHORTHANDS = {"model": ("grid", "models"), "dataset": ("grid", "datasets")}  # each entry of these


class Quoting(yaml.SafeDumper):
    """Writes every text in quotes: 12e4 is a number for us, and a plain text for PyYAML."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Return a text in quotes."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"')


Quoting.add_representer(str, Quoting.represent_str)


class Document:
    """The values of a YAML file, and the file and line of each."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.values: Any
        self.values, self._lines = parse(text, file)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the document of a job that Python code holds. It has no lines.

        Raises:
            JobError: a value is none that YAML has, such as an array.
        """
        try:
            document = cls(IN_PYTHON, yaml.dump(dict(values), Dumper=Quoting))
        except yaml.representer.RepresenterError as error:
            value = error.args[-1]
            raise JobError(
                f"a job holds texts, numbers, lists and mappings, and no {type(value).__name__}: "
                f"{str(value)[:60]}",
                where=IN_PYTHON,
            ) from error
        document._lines = dict.fromkeys(document._lines, IN_PYTHON)
        return document

    def where(self, path: Sequence[str | int]) -> str:
        """Return `file:line a.b[2]` of the value at `path`; if there is none, of its parent."""
        existing = tuple(path)
        while existing and existing not in self._lines:
            existing = existing[:-1]
        line = self._lines.get(existing, self.file)
        return line if line.startswith("--set") else f"{line} {dotted(path)}".strip()

    def count(self, path: KeyPath) -> int:
        """Return how many items the list at `path` has; 0 if there is none."""
        value = self._at(path)
        return len(value) if isinstance(value, list) else 0

    def has(self, path: KeyPath) -> bool:
        """Return True if there is a value at `path` that is not null."""
        return self._at(path) is not None

    def contains(self, path: KeyPath) -> bool:
        """Return True if there is a value at `path`, even null."""
        parent = self._at(path[:-1])
        return isinstance(parent, dict) and path[-1] in parent

    def rename(self, old: KeyPath, new: KeyPath) -> None:
        """Move the value at `old` to `new`. It keeps its file and line."""
        self._put(new, self._at(old[:-1]).pop(old[-1]))
        self._forget_lines(new)
        self._copy_lines(new, self, old)

    def append(self, path: KeyPath, more: KeyPath) -> None:
        """Move the items of the list at `more` to the end of the list at `path`.

        Raises:
            JobError: one of the two is no list.
        """
        if not self.contains(more):
            return
        for each in (path, more):
            if not isinstance(self._at(each), list):
                raise JobError(f"{dotted(each)} must be a list", where=self.where(each))
        ours = self._at(path)
        for index, value in enumerate(self._at(more[:-1]).pop(more[-1])):
            self._copy_lines((*path, len(ours)), self, (*more, index))
            ours.append(value)

    def set_defaults(self, path: KeyPath, defaults: KeyPath, without: Sequence[str] = ()) -> None:
        """Add missing keys to the mapping at `path`, from the mapping at `defaults`.

        Args:
            path: of the mapping to change.
            defaults: path of the mapping with defaults.
            without: keys that are never added.
        """
        ours, theirs = self._at(path), self._at(defaults)
        for key in theirs if isinstance(ours, dict) and isinstance(theirs, dict) else ():
            if key not in ours and key not in without:
                ours[key] = copy.deepcopy(theirs[key])
                self._copy_lines((*path, key), self, (*defaults, key))

    def make_relative(self, key: str, is_path: Callable[[str], bool]) -> None:
        """Turn a name, or a list of names, into a list whose paths are relative to this file.

        Args:
            key: of the document.
            is_path: returns True for the names that are paths.
        """
        if not isinstance(self.values, dict) or key not in self.values:
            return
        value = self.values[key]
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list):
            self.values[key] = [
                str(Path(self.file).parent / name)
                if isinstance(name, str) and is_path(name)
                else name
                for name in names
            ]

    def merge(self, base: Document) -> None:
        """Add the values of another document that this one does not have.

        Raises:
            JobError: one of the two is not a mapping.
        """
        if not isinstance(self.values, dict) or not isinstance(base.values, dict):
            raise JobError("only mappings can be extended", where=f"{self.file} and {base.file}")
        self._merge(self.values, base.values, (), base)

    def override(self, assignment: str) -> None:
        """Set one value, written `a.b=c` with c in YAML; numbers are indices of lists.

        `model.b=c` sets b of every entry of grid.models, `dataset.b=c` of every data set.

        Raises:
            JobError: the assignment does not have this form, or there is no a.
        """
        name, equals, text = assignment.partition("=")
        keys = [
            int(key) if key.isdecimal() else key
            for key in re.sub(r"\[(\d+)\]", r".\1", name).split(".")
        ]
        if not equals or not name or keys[0] == EXTENDS:
            raise JobError(
                f"'{assignment}' is not of the form a.b=value",
                where="--set",
                next_command="lotus-ray grid JOB.yaml --set grid.seeds=[13]",
            )
        try:
            for path in self._paths(tuple(keys)):
                self._put(path, parse(text, "--set")[0] if text else None)
                self._forget_lines(path)
                self._lines[path] = f"--set {assignment}"
        except (KeyError, IndexError, TypeError) as error:
            raise JobError(
                f"'{name}' does not exist in {self.file}", where=f"--set {assignment}"
            ) from error

    def _paths(self, keys: KeyPath) -> list[KeyPath]:
        """Return the paths that an override sets: several for a shorthand."""
        if keys[0] not in SHORTHANDS or len(keys) == 1:
            return [keys]
        entries = SHORTHANDS[keys[0]]
        if not self.count(entries):
            raise KeyError(dotted(entries))
        return [(*entries, index, *keys[1:]) for index in range(self.count(entries))]

    def _at(self, path: KeyPath) -> Any:
        """Return the value at `path`, or None."""
        value = self.values
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def _put(self, path: KeyPath, value: Any) -> None:
        parent = self.values
        for key in path[:-1]:
            if isinstance(parent, dict) and parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
        parent[path[-1]] = value

    def _merge(
        self, ours: dict[str, Any], theirs: dict[str, Any], path: KeyPath, base: Document
    ) -> None:
        for key, value in theirs.items():
            below = (*path, key)
            if key not in ours:
                ours[key] = value
                self._copy_lines(below, base, below)
            elif isinstance(value, dict) and isinstance(ours[key], dict):
                self._merge(ours[key], value, below, base)

    def _copy_lines(self, path: KeyPath, source: Document, at: KeyPath) -> None:
        """Copy file and line of values at `at` in another document to values at `path`."""
        lines = [(p, line) for p, line in source._lines.items() if p[: len(at)] == at]
        above = at
        while not lines and above and above not in source._lines:
            above = above[:-1]
        if not lines and above:  # a part of a larger value that was set at once
            lines = [(at, source._lines[above])]
        self._lines.update({(*path, *p[len(at) :]): line for p, line in lines})

    def _forget_lines(self, path: KeyPath) -> None:
        self._lines = {p: line for p, line in self._lines.items() if p[: len(path)] != path}
