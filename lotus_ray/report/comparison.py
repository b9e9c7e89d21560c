"""How far a model is from its gold standard, from what the store keeps of both.

This is not part of a row, whose content depends on its own cell alone. A comparison reads some
megabytes a cell where the forget set is large, so what came of it is kept in the store, by the
digests of what was compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from lotus_ray.base.errors import StoreError
from lotus_ray.metrics import VERSION, jsd, jsd_compat
from lotus_ray.metrics.outputs import TENSORS, forget_probs
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.store.sealed import sealed, unsealed


@dataclass
class Comparisons:
    """Divergences between rows of a store. The last gold standard stays in memory."""

    store: Store
    afresh: bool = False  # compute what is kept, too
    _read: dict[str, bytes] = field(default_factory=dict)  # of what is kept
    _gold: dict[str, np.ndarray] = field(default_factory=dict)

    def read(self, pairs: Iterable[tuple[Row, Row]]) -> None:
        """Read at once what is kept of many pairs; else `between` reads it one by one."""
        if not self.afresh:
            self._read |= self.store.find_all(_name(*pair) for pair in pairs)

    def between(self, row: Row, gold: Row) -> dict[str, float]:
        """Return `jsd` and `jsd_compat` of a model's forget-set outputs to a gold standard's.

        Raises:
            StoreError: an artifact is missing or differs from what its row says.
        """
        name = _name(row, gold)
        known = None if self.afresh else unsealed(self._kept(name))
        if known is not None:
            return known
        ours = forget_probs(self.store.artifact(row, TENSORS))
        if _digest(gold) not in self._gold:
            self._gold = {_digest(gold): forget_probs(self.store.artifact(gold, TENSORS))}
        golds = self._gold[_digest(gold)]
        values = {"jsd": jsd(ours, golds), "jsd_compat": jsd_compat(ours, golds)}
        self._keep(name, values)
        return values

    def _kept(self, name: str) -> bytes:
        return self._read.get(name) or self.store.find(name) or b""

    def _keep(self, name: str, values: dict[str, float]) -> None:
        with suppress(StoreError):  # a report needs no right to write
            self.store.put(name, sealed(values))


def _name(row: Row, gold: Row) -> str:
    key = json.dumps([VERSION, _digest(row), _digest(gold)]).encode()
    return f"comparisons/{hashlib.sha256(key).hexdigest()[:32]}.json"


def _digest(row: Row) -> str:
    return row.artifacts[TENSORS].sha256
