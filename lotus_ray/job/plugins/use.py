"""Say which plug-ins a command may use: installed packages, and what it imports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from lotus_ray.base import plugins
from lotus_ray.base.plugins import (
    Code,
    Kind,
    Offer,
    Plugin,
    PluginError,
    Reference,
    name_taken,
)
from lotus_ray.job.plugins.read_code import code_of_module, read_code

if TYPE_CHECKING:
    from lotus_ray.store.results import Store

GROUPS: dict[str, Kind] = {f"lotus_ray.{kind}s": kind for kind in plugins.KINDS}


def use_plugins(imports: Sequence[str] = ()) -> None:
    """Offer the plug-ins of installed packages and of imports, in place of those before.

    Installed ones are imported once a job uses them; imports are imported now.

    Args:
        imports: files, folders and modules: see `read_code`.

    Raises:
        PluginError: an import fails, or a name is taken.
    """
    offers = list(_installed())
    looked_at = [offer.origin for offer in offers]
    for code, module in _distinct(map(read_code, imports)):
        from lotus_ray.job.plugins.collect import defined_by  # imports torch

        looked_at.append(code.origin)
        for plugin in map(plugins.add, defined_by(code, module)):
            load = partial(_itself, plugin)
            offers.append(Offer(plugin.kind, plugin.name, code.origin, load))
    plugins.set_offers(_without_twins(offers), dict.fromkeys(looked_at))


def load_from_store(store: Store, references: Iterable[Reference]) -> None:
    """Import the plug-ins of a work order on a worker. The store has their code.

    Raises:
        PluginError: the code is missing or changed, or cannot be imported on this node.
    """
    for reference in references:
        if not plugins.is_loaded(reference):
            plugins.add(_from_store(store, reference))


def _from_store(store: Store, reference: Reference) -> Plugin:
    from lotus_ray.job.plugins.collect import named

    name = plugins.stored_name(reference.digest)
    content = store.find(name)
    if content is None or hashlib.sha256(content).hexdigest() != reference.digest:
        raise PluginError(
            f"the code of the {reference.kind} {reference.name} is "
            + ("missing" if content is None else "not what it was when the grid was planned"),
            where=store.address(name),
            next_command="run the same command again: it writes the code again",
        )
    code = Code(reference.origin, json.loads(content))
    return named(reference.kind, reference.name, code, reference.module, reference.attribute)


def _installed() -> Iterator[Offer]:
    """Yield what entry points of installed packages name, without importing it."""
    for group, kind in GROUPS.items():
        for entry in entry_points(group=group):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            yield Offer(kind, entry.name, origin, partial(_load_entry, kind, entry, origin))


def _load_entry(kind: Kind, entry: EntryPoint, origin: str) -> Plugin:
    from lotus_ray.job.plugins.collect import named

    return named(kind, entry.name, code_of_module(entry.module, origin), entry.module, entry.attr)


def _itself(plugin: Plugin) -> Plugin:
    return plugin


def _distinct(codes: Iterable[tuple[Code, str]]) -> list[tuple[Code, str]]:
    """Return each module once: a job and its command may both import it."""
    return list({(code.digest, module): (code, module) for code, module in codes}.values())


def _without_twins(offers: Sequence[Offer]) -> list[Offer]:
    """Return each offer once.

    Raises:
        PluginError: two different plug-ins have one name.
    """
    first: dict[tuple[Kind, str], Offer] = {}
    for offer in offers:
        twin = first.setdefault((offer.kind, offer.name), offer)
        if twin is not offer and twin.load().code.digest != offer.load().code.digest:
            raise name_taken(offer.kind, offer.name, offer.origin, twin.origin)
    return list(first.values())
