"""Two processes of a test as two workers."""

from __future__ import annotations

import datetime

import torch.distributed


def join_two(rank: int, folder: str) -> None:
    """Join the other one over gloo; they meet in a folder."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
