"""Plug-ins of this process: methods, models, sources and metrics that are no part of lotus-ray.

Which of them a command may use is set by `job.plugins`. What is below it looks names up here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lotus_ray.base.errors import JobError

Kind = Literal["method", "model", "source", "metric"]
KINDS: tuple[Kind, ...] = ("method", "model", "source", "metric")
FILE = "plugin.py"  # the one file of a `Code` that is a single file, whatever its own name


class PluginError(JobError):
    """A plug-in cannot be imported, or it defines something that cannot be used."""


@dataclass(frozen=True)
class Code:
    """The source of a plug-in: all Python files of a package, or one file."""

    origin: str  # for messages: a path, or a package and its version
    files: Mapping[str, str]  # text by path, as `package/module.py`; FILE for a single file

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`. It does not depend on where the files are."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def top(self) -> str:
        """The name under which Python knows the whole package, or the single file."""
        first = next(iter(self.files))
        if first == FILE:
            return f"lotus_ray_import_{self.digest[:12]}"
        return first.partition("/")[0].removesuffix(".py")

    def to_bytes(self) -> bytes:
        """Return the files as JSON."""
        return json.dumps(dict(self.files), sort_keys=True, indent=1).encode()


def stored_name(digest: str) -> str:
    """Return the name in a store of the code with a digest."""
    return f"plugins/{digest}.json"


@dataclass(frozen=True)
class Reference:
    """Where a worker finds a plug-in: the attribute of a module of some code."""

    kind: Kind
    name: str  # in jobs
    digest: str  # of the code
    origin: str  # for messages
    module: str
    attribute: str


@dataclass(frozen=True, eq=False)
class Plugin:
    """One plug-in: what a job's name stands for, and the code that defines it."""

    kind: Kind
    name: str  # in jobs
    value: Any  # a Method class, a builder of networks, a Source or a metric
    code: Code
    module: str
    attribute: str

    @property
    def reference(self) -> Reference:
        """Where a worker finds it."""
        code = self.code
        names = self.kind, self.name, code.digest, code.origin
        return Reference(*names, self.module, self.attribute)


@dataclass(frozen=True)
class Offer:
    """A plug-in that may be used. It is imported once it is."""

    kind: Kind
    name: str
    origin: str
    load: Callable[[], Plugin]


_offers: dict[tuple[Kind, str], Offer] = {}
_looked_at: list[str] = []
_loaded: dict[tuple[Kind, str, str], Plugin] = {}  # by kind, name and digest


def set_offers(offers: Iterable[Offer], looked_at: Iterable[str]) -> None:
    """Say which plug-ins names may stand for from now on, in place of those before.

    Args:
        offers: the plug-ins. Two with one name must be the same.
        looked_at: the packages and files that were searched, for messages.
    """
    _offers.clear()
    _offers.update({(offer.kind, offer.name): offer for offer in offers})
    _looked_at[:] = looked_at


def add(plugin: Plugin) -> Plugin:
    """Keep a plug-in that was imported, for `loaded`."""
    _loaded[plugin.kind, plugin.name, plugin.code.digest] = plugin
    return plugin


def names(kind: Kind) -> list[str]:
    """Return the names of all plug-ins of a kind that may be used."""
    return [name for each, name in _offers if each == kind]


def find(kind: Kind, name: str) -> Plugin | None:
    """Return a plug-in that may be used by its name; None if there is none.

    Raises:
        PluginError: it cannot be imported.
    """
    offer = _offers.get((kind, name))
    return None if offer is None else add(offer.load())


def is_loaded(reference: Reference) -> bool:
    """Return True if this process has imported a plug-in."""
    return (reference.kind, reference.name, reference.digest) in _loaded


def loaded(kind: Kind, name: str, digest: str) -> Plugin:
    """Return a plug-in of this process by its name and the digest of its code.

    Raises:
        PluginError: this process has not imported it.
    """
    try:
        return _loaded[kind, name, digest]
    except KeyError:
        raise PluginError(
            f"the {kind} {name} is a plug-in that this command has not imported",
            where=f"code {digest[:12]}",
            next_command="give the command the same --import FILE_OR_MODULE as the grid",
        ) from None


def check_free(kind: Kind, name: str, taken: bool) -> None:
    """Raise PluginError if a plug-in has the name of something that is built in."""
    offer = _offers.get((kind, name))
    if offer is not None and taken:
        raise name_taken(kind, name, offer.origin, "lotus-ray itself")


def name_taken(kind: Kind, name: str, origin: str, first: str) -> PluginError:
    """Return the error for a second plug-in of a name."""
    return PluginError(
        f"the {kind} name '{name}' is taken: {first} has it already",
        where=origin,
        nearest=f"my_{name}",
        next_command=f"rename it there; lotus-ray list {_LISTS[kind]}",
    )


def looked_at() -> str:
    """Return the end of a message about an unknown name: which plug-ins were looked at."""
    return f"; plug-ins looked at: {', '.join(_looked_at)}" if _looked_at else ""


_LISTS = {"method": "methods", "model": "models", "source": "datasets", "metric": "metrics"}
