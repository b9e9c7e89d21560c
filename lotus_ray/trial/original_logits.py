"""The original's logits, computed once and kept in the store for every method, group and run.

They are kept by set of samples: the held-out set, which groups of all seeds share, and the forget
and retain set. A set is stored in shards, each with its digest. The marker that lists the shards is
written last; a set without its marker is ignored.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.base.roles import CALIBRATION, FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.data.roles.table import Roles
from lotus_ray.store.results import Store
from lotus_ray.unlearning.contract import SampleSet, Workers
from lotus_ray.unlearning.logits_cache import LogitsCache

SETS = ((UNSEEN, TEST), (FORGET, RETAIN), (CALIBRATION,))
_ROWS_A_SHARD = 65_536  # of 1,000 classes in float32: 262 MB
_MARKER = "complete.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogitsFiles:
    """The logits of one set of samples in a store. `key` names everything that they depend on."""

    store: Store
    key: Mapping[str, Any]
    sample_ids: Sequence[str]

    @property
    def folder(self) -> str:
        """Return the folder of the set in the store."""
        digest = hashlib.sha256(json.dumps(self.key, sort_keys=True).encode())
        digest.update("\n".join(self.sample_ids).encode())
        return f"logits/{digest.hexdigest()[:32]}"

    def read(self) -> Tensor | None:
        """Return logits [n, C] in the order of the samples; None if any is missing or damaged."""
        try:
            content = self.store.find(f"{self.folder}/{_MARKER}")
            if content is None:
                return None
            shards = [self._shard(**shard) for shard in json.loads(content)["shards"]]
            logits = torch.cat(shards)
            if len(logits) != len(self.sample_ids):
                raise ValueError(f"{len(logits)} rows for {len(self.sample_ids)} samples")
        except StoreUnreachable:
            raise
        except (StoreError, OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s is ignored: %s", self.store.address(self.folder), error)
            return None
        return logits

    def write(self, logits: Tensor) -> None:
        """Write logits [n, C], the marker last. An error of the store is only logged."""
        shards = []
        try:
            for part in torch.split(logits, _ROWS_A_SHARD):
                content = save({"logits": part.contiguous().cpu()})
                digest = hashlib.sha256(content).hexdigest()
                name = f"{digest[:32]}.safetensors"  # two writers never mix their shards
                self.store.replace(f"{self.folder}/{name}", content)
                shards.append({"name": name, "sha256": digest})
            marker = {"rows": len(logits), "key": dict(self.key), "shards": shards}
            self.store.replace(f"{self.folder}/{_MARKER}", json.dumps(marker, indent=1).encode())
        except StoreError as error:
            _log.warning("the original's logits are not stored: %s", error)

    def _shard(self, name: str, sha256: str) -> Tensor:
        content = self.store.find(f"{self.folder}/{name}")
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{name} is missing or damaged")
        logits: Tensor = load(content)["logits"]
        return logits


def stored_logits(
    model: nn.Module,
    roles: Roles,
    split: Callable[..., SampleSet],
    store: Store,
    key: Mapping[str, Any] | None,
    workers: Workers,
) -> LogitsCache:
    """Return the logits of a frozen network on every sample that is evaluated.

    The first worker reads the sets that the store holds, for all; other sets are computed and kept.

    Args:
        model: the original.
        roles: the table of roles.
        split: returns the samples of some roles.
        store: where logits are kept.
        key: what the logits depend on besides the samples, on the first worker; None keeps none.
        workers: who share the work.
    """
    cache = LogitsCache(model, len(roles), roles.num_classes, workers)
    device = next(model.parameters()).device
    for names in SETS:
        rows = torch.from_numpy(roles.indices(*names))
        if not len(rows):
            continue
        ids = [roles.sample_ids[row] for row in rows.tolist()]
        files = LogitsFiles(store, key, ids) if key and workers.rank == 0 else None
        stored = files.read() if files else None
        if workers.from_first(torch.tensor(float(stored is not None), device=device)):
            empty = torch.zeros(len(rows), roles.num_classes, device=device)
            given = empty if stored is None else stored.to(device)
            cache.add(rows, workers.from_first(given.to(next(model.parameters()).dtype)))
            continue
        cache.compute_missing(split(*names))
        computed = cache.of(rows.to(device))
        if files and bool(computed.isfinite().all()):
            files.write(computed)
    return cache
