"""A server that has imported what is slow to import; processes of tests are forked from it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import torch.multiprocessing

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    [
        *("timm", "sklearn.linear_model", "torch.distributed"),
        *("lotus_ray.grid.local", "lotus_ray.grid.run", "lotus_ray.unlearning.methods"),
        *("lotus_ray.cli.grid", "lotus_ray.cli.grid_output", "lotus_ray.report.page"),
    ]
)


def run_two(function: Callable[..., None], *arguments: object) -> None:
    """Call function(rank, *arguments) in two processes; wait for both."""
    torch.multiprocessing.start_processes(  # type: ignore[attr-defined]
        function, args=arguments, nprocs=2, start_method="forkserver"
    )
