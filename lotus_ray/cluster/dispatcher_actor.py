"""The dispatcher as Ray runs it."""

from __future__ import annotations

import ray

from lotus_ray.cluster.dispatcher import Dispatcher


class DispatcherActor(Dispatcher):
    """The dispatcher as an actor. It knows whether Ray has started it again."""

    def __init__(self, orders: list[bytes], cells: int) -> None:
        super().__init__(orders, cells, ray.get_runtime_context().was_current_actor_reconstructed)
