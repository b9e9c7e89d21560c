"""Seconds of a training step of two workers: a loop that runs in Ray Train and under torchrun.

torchrun starts this module: `python -m lotus_ray.bench.step_loop STEPS FILE`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.base.memory import keep_freed_memory
from lotus_ray.bench.generated import Sizes, build
from lotus_ray.unlearning.contract import Batch, SampleSet, Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.methods.finetune import Finetune

WORKERS = 2
WARM_UP = 10  # steps that are not counted
STEPS = 60
SLOWEST_SECONDS = 120


@dataclass
class _Timed:
    """A split that records the time at which each batch is requested: once per step."""

    split: SampleSet
    at: list[float] = field(default_factory=list)

    def shuffled(self, batch_size: int, *names: object) -> Iterator[Batch]:
        for batch in self.split.shuffled(batch_size, *names):
            self.at.append(time.perf_counter())
            yield batch


def step_seconds(workers: Workers, device: torch.device, steps: int) -> list[float]:
    """Finetune on this worker, on one thread; return the seconds of each step.

    A step makes a batch, computes and averages gradients, and updates the weights: with our engine
    and method, as in a group.

    Args:
        workers: that share the batches.
        device: of this worker.
        steps: how many steps to measure.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    stage = build(_sizes(steps + WARM_UP + 1), device, workers)
    with ForwardCounter().counting() as counted:
        problem = stage.problem(counted)
        timed = _Timed(problem.retain)
        problem.retain = cast(SampleSet, timed)
        unlearn(Finetune(epochs=1), problem)
    return [after - before for before, after in zip(timed.at, timed.at[1:], strict=False)][WARM_UP:]


def _sizes(steps: int) -> Sizes:
    """Return a small problem of so many steps of 32 images, half of them on each worker."""
    return Sizes(
        model="vit_tiny_patch16_224",
        options={"img_size": 16, "patch_size": 4, "depth": 4},
        img_size=16,
        classes=8,
        forget=1,
        retain=4 * steps,
        unseen=1,
        test=1,
        batch_size=32,
    )


def torchrun_step_seconds(steps: int) -> list[float]:
    """Run the loop under torchrun, over gloo on this machine; return the first worker's seconds.

    Args:
        steps: how many steps to measure.

    Raises:
        RuntimeError: torchrun failed. The text says how.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "seconds.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={WORKERS}", "-m", "lotus_ray.bench.step_loop"]
        command += [str(steps), str(answer)]
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        if ended.returncode:
            raise RuntimeError(f"torchrun failed: {ended.stderr[-1000:]}")
        seconds: list[float] = json.loads(answer.read_text())
        return seconds


def _workers_of_torchrun() -> Workers:
    """Return the workers of this process's torch.distributed group."""

    def summed(tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    def replicate(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, broadcast_buffers=False)

    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Workers(rank=rank, size=size, sum=summed, replicate=replicate)


def _main(steps: str, answer: str) -> Any:
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=SLOWEST_SECONDS))
    taken = step_seconds(_workers_of_torchrun(), torch.device("cpu"), int(steps))
    if torch.distributed.get_rank() == 0:
        Path(answer).write_text(json.dumps(taken))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _main(*sys.argv[1:])
