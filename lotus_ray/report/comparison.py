"""How far a model is from its gold standard, from what the store keeps of both.

This is not part of a row, whose content depends on its own cell alone. A comparison reads some
megabytes a cell where the forget set is large, so what came of it is kept in the store, by the
digests of what was compared.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from lotus_ray.errors import StoreError
from lotus_ray.metrics import VERSION, jsd, jsd_compat
from lotus_ray.metrics.outputs import TENSORS, forget_probs
from lotus_ray.store import Row, Store, sealed, unsealed


@dataclass
class Comparisons:
    """Divergences between rows of a store. The last gold standard stays in memory."""

    store: Store
    afresh: bool = False  # compute what is kept, too
    _gold: dict[str, np.ndarray] = field(default_factory=dict)

    def between(self, row: Row, gold: Row) -> dict[str, float]:
        """Return `jsd` and `jsd_compat` of a model's forget-set outputs to a gold standard's.

        Raises:
            StoreError: an artifact is missing or differs from what its row says.
        """
        digests = [found["artifacts"][TENSORS]["sha256"] for found in (row, gold)]
        key = hashlib.sha256(json.dumps([VERSION, *digests]).encode()).hexdigest()
        name = f"comparisons/{key[:32]}.json"
        known = None if self.afresh else unsealed(self.store.find(name) or b"")
        if known is not None:
            return known
        ours = forget_probs(self.store.artifact(row, TENSORS))
        if digests[1] not in self._gold:
            self._gold = {digests[1]: forget_probs(self.store.artifact(gold, TENSORS))}
        golds = self._gold[digests[1]]
        values = {"jsd": jsd(ours, golds), "jsd_compat": jsd_compat(ours, golds)}
        self._keep(name, values)
        return values

    def _keep(self, name: str, values: dict[str, float]) -> None:
        with suppress(StoreError):  # a report needs no right to write
            self.store.put(name, sealed(values))
