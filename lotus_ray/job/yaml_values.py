"""YAML text -> plain values and their lines. Tags, duplicate keys and bombs are refused.

Two rules differ from YAML 1.1: 1e-1 is a number; 010, 0x10, 1_000 and 12:30 are the text that is
written, because names of classes and people look like this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from lotus_ray.base.errors import JobError

MAX_NODES = 10_000
MAX_DEPTH = 50
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MERGE = "tag:yaml.org,2002:merge"
_POWER_OF_TEN = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_NO_NUMBER = re.compile(  # octal, in hexadecimal or binary, with underscores, or in sixties
    r"[-+]?(0[0-9_]+|0[bx][0-9a-fA-F_]+|[0-9.]*_[0-9_.]*|[0-9_]+(:[0-9_.]+)+)"
)
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

KeyPath = tuple[str | int, ...]  # keys of mappings and indices of lists, from the root


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as `grid.methods[2]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def parse(text: str, file: str) -> tuple[Any, dict[KeyPath, str]]:
    """Read YAML text.

    Args:
        text: one YAML document.
        file: its name, for errors.

    Returns:
        The values ({} if there are none), and `file:line` of each by its path.

    Raises:
        JobError: this is not YAML, or has a tag, a duplicate key or too many values.
    """
    parser = _Parser(file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return (parser.value(node, ()) if node else {}), parser.lines
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise JobError(
            f"this is not YAML: {getattr(error, 'problem', None) or error}",
            where=f"{file}:{mark.line + 1}" if mark else file,
            next_command="correct that line and run the same command again",
        ) from error


class _Parser:
    """Turns nodes of YAML into values; counts them, because aliases multiply."""

    def __init__(self, file: str) -> None:
        self.lines: dict[KeyPath, str] = {}
        self._file = file
        self._nodes = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the value of a node and remember its line."""
        self._nodes += 1
        line = self._line(node)
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise JobError("the file expands to too many values", where=line)
        self.lines.setdefault(path, line)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise JobError(f"the tag {node.tag} is refused", where=f"{line} {dotted(path)}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        value = _scalar(node)
        if isinstance(value, str) and _CONTROL.search(value):
            raise JobError("a text holds a control character", where=f"{line} {dotted(path)}")
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        """Return a mapping. Keys must be different words. A value has the line of its key."""
        values = self._merged(node, path)
        own: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            line = self._line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise JobError("a key must be a plain word", where=line)
            key = str(key_node.value)
            if key in own:
                raise JobError(
                    f"duplicate key '{key}'",
                    where=f"{line} {dotted((*path, key))}",
                    next_command=f"remove one of the two; lotus-ray validate {self._file}",
                )
            if key in values:  # it was merged in, and its own value wins
                self.lines = {
                    p: at for p, at in self.lines.items() if p[: len(path) + 1] != (*path, key)
                }
            own.add(key)
            self.lines[(*path, key)] = line
            values[key] = self.value(value_node, (*path, key))
        return values

    def _merged(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        """Return what merge keys (`<<: *anchor`, or a list of anchors) bring; the first one wins.

        Raises:
            JobError: a merge key has another value than mappings.
        """
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                continue
            given = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for each in given:
                if not isinstance(each, yaml.MappingNode):
                    raise JobError(
                        "<< takes a mapping, or a list of mappings",
                        where=f"{self._line(key_node)} {dotted(path)}",
                        next_command=f"<<: *anchor; lotus-ray validate {self._file}",
                    )
                before = dict(self.lines)
                brought = self.value(each, path)
                self.lines |= before
                values = {**brought, **values}
        return values

    def _line(self, node: yaml.Node) -> str:
        return f"{self._file}:{node.start_mark.line + 1}"


def _scalar(node: yaml.Node) -> Any:
    """Return a number, truth value, date, null or text."""
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    if is_plain and _POWER_OF_TEN.fullmatch(node.value):
        return float(node.value)
    if is_plain and _NO_NUMBER.fullmatch(node.value):
        return node.value
    return yaml.SafeLoader("").construct_object(node)
