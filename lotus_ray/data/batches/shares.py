"""Which worker takes which samples of a batch, so that each node needs only its part of the images.

A share is as large as it would be otherwise, and the batch is the same. Only who computes what
differs, so a result does not depend on which node holds which image, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lotus_ray.unlearning.contract import Workers

ANY = -1  # the sample is on every node, or on none


def home(stored: np.ndarray, workers: Workers) -> np.ndarray:
    """Return the node that keeps each sample where not all nodes can keep all, int64 [N].

    Samples that are stored side by side go to the workers in turn. So every window of an epoch has
    as many samples of one worker as of another.

    Args:
        stored: rank of each sample in the order of storage, int64 [N].
        workers: of the group.
    """
    nodes: np.ndarray = np.array(workers.node_of)[stored % workers.size]
    return nodes


@dataclass(frozen=True)
class Shares:
    """How the workers share batches. Without `holder`, each takes every W-th sample in turn."""

    workers: Workers
    holder: np.ndarray | None = None  # int64 [N]: the node that holds each sample, or ANY

    @classmethod
    def agreed(
        cls, workers: Workers, held: np.ndarray, stored: np.ndarray, device: torch.device
    ) -> Shares:
        """Return the shares of workers whose nodes may hold different images.

        Every worker must call this.

        Args:
            workers: of the group.
            held: the samples that this worker's node holds, bool [N].
            stored: rank of each sample in the order of storage, int64 [N].
            device: where workers exchange tensors.
        """
        if workers.size == 1:
            return cls(workers)
        node_of = np.array(workers.node_of)
        some_miss = torch.tensor(float(not held.all()), device=device)
        if not workers.sum(some_miss) or not node_of.any():
            return cls(workers)
        table = torch.zeros((int(node_of.max()) + 1, len(held)), dtype=torch.uint8, device=device)
        if workers.rank == workers.on_this_node[0]:
            table[node_of[workers.rank]] = torch.from_numpy(held)
        by_node = workers.sum(table).cpu().numpy() > 0
        wanted = home(stored, workers)
        is_home = by_node[wanted, np.arange(len(held))]
        holder = np.where(is_home, wanted, by_node.argmax(axis=0))
        holder[by_node.all(axis=0) | ~by_node.any(axis=0)] = ANY
        return cls(workers, holder)

    def of_batch(self, rows: np.ndarray) -> np.ndarray:
        """Return which places of a batch this worker takes, rising.

        Each share has the size of the plain one. Within that, samples go to a node that holds them.
        A batch that all nodes hold is dealt plainly.

        Args:
            rows: of the global batch, int64 [n]; n is at least the number of workers.
        """
        workers = self.workers
        if self.holder is None or (self.holder[rows] == ANY).all():
            return np.arange(len(rows))[workers.rank :: workers.size]
        plain = self._plain_nodes(len(rows))
        room = np.bincount(plain, minlength=max(workers.node_of) + 1)
        node = np.full(len(rows), ANY)
        for number, size in enumerate(room):
            node[np.flatnonzero(self.holder[rows] == number)[:size]] = number
        room -= np.bincount(node[node >= 0], minlength=len(room))
        node[node < 0] = np.repeat(np.arange(len(room)), room)
        return self._of_node(node)

    def of_pass(self, rows: np.ndarray) -> np.ndarray:
        """Return which places of a pass over a set this worker takes, rising.

        A pass has no batches in common, so the shares need not be alike.

        Args:
            rows: of the set, int64 [n].
        """
        if self.holder is None:
            return np.arange(len(rows))[self.workers.rank :: self.workers.size]
        holder = self.holder[rows]
        return self._of_node(np.where(holder == ANY, self._plain_nodes(len(rows)), holder))

    def _plain_nodes(self, count: int) -> np.ndarray:
        """Return the node of each of `count` samples that are dealt to the workers in turn."""
        nodes: np.ndarray = np.array(self.workers.node_of)[np.arange(count) % self.workers.size]
        return nodes

    def _of_node(self, node: np.ndarray) -> np.ndarray:
        """Return this worker's places among those of its node, int64; `node` of each place [n]."""
        beside = self.workers.on_this_node
        own = np.flatnonzero(node == self.workers.node_of[self.workers.rank])
        return own[beside.index(self.workers.rank) :: len(beside)]
