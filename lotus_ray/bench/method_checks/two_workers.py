"""Two processes as two workers, over gloo on this machine."""

from __future__ import annotations

import datetime
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.bench.method_checks.checks import TWO_WORKERS, states_differ
from lotus_ray.bench.method_checks.problems import Small, problem
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.plugins.use import use_plugins
from lotus_ray.models.batch_norm import synchronise_batch_norm
from lotus_ray.unlearning.checkpoint import PhaseRecord
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.find_method import find_method
from lotus_ray.unlearning.problem import Problem

SECONDS = 60  # that one waits for the other
RESULT = "result.pt"


def join_two(rank: int, folder: str) -> Workers:
    """Join the other process over gloo; they meet in a folder. Return the workers."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=SECONDS),
    )
    return Workers(rank, 2, _sum, _replicate)


def _sum(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def _replicate(model: nn.Module) -> nn.Module:
    synchronise_batch_norm(model, torch.device("cpu"))
    return DistributedDataParallel(model, broadcast_buffers=False)


def two_differ_from_one(
    state: dict[str, Tensor],
    losses: Sequence[Sequence[float]],
    stage: Problem,
    records: Sequence[PhaseRecord],
) -> str:
    """Fail where two workers gave other weights or losses than one.

    Args:
        state: of the model of two workers.
        losses: of each of their phases, by step.
        stage: after the run of one worker.
        records: of that run.
    """
    if [len(each) for each in losses] != [len(record.losses) for record in records]:
        return "two workers have other numbers of phases or steps than one"
    for index, (ours, record) in enumerate(zip(losses, records, strict=True)):
        if not np.allclose(ours, record.losses, rtol=1e-6, atol=1e-9):
            return f"phase {index} of two workers has other losses than of one: see Batch.mean"
    differs = states_differ(state, stage.model.state_dict(), TWO_WORKERS)
    return f"two workers give other weights than one: {differs}" if differs else ""


def unlearn_with_two(description: dict[str, Any], imports: Sequence[str], folder: str) -> None:
    """Run a method on the small problem with two workers; write weights and losses to RESULT.

    Args:
        description: of the method.
        imports: plug-ins of the command.
        folder: of the result.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a worker failed.
    """
    torch.multiprocessing.start_processes(  # type: ignore[attr-defined,no-untyped-call]
        _work, (folder, json.dumps(description), tuple(imports)), nprocs=2, start_method="spawn"
    )


def _work(rank: int, folder: str, description: str, imports: tuple[str, ...]) -> None:
    """Run the method as one of two workers."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # torch's own
    use_plugins(imports)
    plain = json.loads(description)
    find_method(plain["name"])  # imports an installed one
    stage = problem(join_two(rank, folder), network=Small)
    records = unlearn(build_method(plain), stage)
    if rank == 0:
        losses = [record.losses for record in records]
        torch.save((stage.model.state_dict(), losses), Path(folder, RESULT))
    torch.distributed.destroy_process_group()
