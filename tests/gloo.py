"""Two processes of a test as two workers."""

from __future__ import annotations

import datetime
import multiprocessing
from collections.abc import Callable

import torch.distributed
import torch.multiprocessing

# Imported once by a server, from which the processes are forked: they start at once.
multiprocessing.set_forkserver_preload(["lotus_ray.unlearning.methods", "torch.distributed"])


def run_two(function: Callable[..., None], *arguments: object) -> None:
    """Call function(rank, *arguments) in two processes; wait for both."""
    torch.multiprocessing.start_processes(  # type: ignore[attr-defined]
        function, args=arguments, nprocs=2, start_method="forkserver"
    )


def join_two(rank: int, folder: str) -> None:
    """Join the other one over gloo; they meet in a folder."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
