"""How far a model is from its gold standard, computed from the outputs in the store.

This is not part of a row: a row depends only on its own cell. A comparison reads some megabytes per
cell if the forget set is large. So its result is cached in the store, under the digests of both
outputs.
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
    afresh: bool = False  # ignore cached results
    _read: dict[str, bytes] = field(default_factory=dict)  # cached results, by name
    _gold: dict[str, np.ndarray] = field(default_factory=dict)

    def read(self, pairs: Iterable[tuple[Row, Row]]) -> None:
        """Read the cached results of many pairs at once. Otherwise `between` reads one by one."""
        if not self.afresh:
            self._read |= self.store.find_all(_name(*pair) for pair in pairs)

    def between(self, row: Row, gold: Row) -> dict[str, float]:
        """Return `jsd` and `jsd_compat` between the forget-set outputs of a model and its gold.

        Args:
            row: the good row of the model.
            gold: the good row of the gold standard.

        Raises:
            StoreError: an artifact is missing or damaged.
        """
        name = _name(row, gold)
        cached = None if self.afresh else unsealed(self._cached(name))
        if cached is not None:
            return cached
        ours = forget_probs(self.store.artifact(row, TENSORS))
        if _digest(gold) not in self._gold:
            self._gold = {_digest(gold): forget_probs(self.store.artifact(gold, TENSORS))}
        golds = self._gold[_digest(gold)]
        values = {"jsd": jsd(ours, golds), "jsd_compat": jsd_compat(ours, golds)}
        self._keep(name, values)
        return values

    def _cached(self, name: str) -> bytes:
        return self._read.get(name) or self.store.find(name) or b""

    def _keep(self, name: str, values: dict[str, float]) -> None:
        with suppress(StoreError):  # a report also works without permission to write
            self.store.put(name, sealed(values))


def _name(row: Row, gold: Row) -> str:
    key = json.dumps([VERSION, _digest(row), _digest(gold)]).encode()
    return f"comparisons/{hashlib.sha256(key).hexdigest()[:32]}.json"


def _digest(row: Row) -> str:
    return row.artifacts[TENSORS].sha256
