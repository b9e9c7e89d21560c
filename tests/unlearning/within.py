"""A run with dropout and many steps in a phase, and how two workers go on within one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from lotus_ray.bench.method_checks.checkpoints import KeptWithin, Resumed
from lotus_ray.bench.method_checks.problems import Small, problem
from lotus_ray.unlearning.checkpoint import Checkpoint
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.problem import Problem


def noisy(workers: Workers | None = None) -> Problem:
    """Return a problem with dropout, and twenty-four steps in a pass over the retain set."""
    stage = problem(workers, network=Small, batch_size=2)
    stage.model.fc = nn.Sequential(nn.Dropout(0.5), stage.model.fc)  # type: ignore[assignment]
    return stage


def equal(first: Problem, second: Problem) -> bool:
    """Return True if all weights and buffers are the same, bit for bit."""
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def go_on_with_two(workers: Workers, file: Path) -> None:
    """Train with one of two workers: as a whole, and from the first one's checkpoints.

    The file gets the steps at which there was a checkpoint, whether records and weights are the
    same bit for bit, and the losses.
    """
    method, whole, kept = Finetune(epochs=2, lr=0.01), noisy(workers), KeptWithin()
    records = unlearn(method, whole, kept)
    shared: list[Any] = [kept.contents]
    torch.distributed.broadcast_object_list(shared)
    steps = [len(Checkpoint.from_bytes(content).losses) for content in shared[0]]
    same = []
    for content in shared[0]:
        stage = noisy(workers)
        same.append(unlearn(method, stage, Resumed(content)) == records)
        same.append(equal(stage, whole))
    torch.save((steps, same, [record.losses for record in records]), file)
