"""The only training step and the only clock."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotus_ray.base import seeds
from lotus_ray.base.errors import Diverged
from lotus_ray.unlearning.checkpoint import NO_CHECKPOINTS, Checkpoint, CheckpointStore, PhaseRecord
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem


def unlearn(
    method: Method, problem: Problem, checkpoints: CheckpointStore = NO_CHECKPOINTS
) -> list[PhaseRecord]:
    """Change `problem.model` in place as `method` says.

    Args:
        method: an entry of METHODS with its hyper-parameters.
        problem: models, splits and workers; every worker calls this with its own share.
        keeper: where a run that was cut off left its last checkpoint, and where this one leaves its
            own; the default keeps none.

    Returns:
        One record a phase. A method that yields no phase returns none.

    Raises:
        Diverged: a loss, or a weight at the end, is NaN or infinite.
    """
    records: list[PhaseRecord] = []
    optimizers: list[Optimizer] = []
    replica: nn.Module | None = None
    restored = checkpoints.load()
    if restored:
        restored.begin(problem)
    for index, phase in enumerate(method.phases(problem)):
        if not any(phase.optimizer is known for known in optimizers):
            optimizers.append(phase.optimizer)
        if restored and index < len(restored.records):
            records.append(restored.records[index])
            if len(records) == len(restored.records):
                restored.restore(problem, optimizers)
                restored = None  # its weights need no second place in memory
                checkpoints.restored()
            continue
        if replica is None:
            replica = problem.workers.replicate(problem.model)
        records.append(_train(phase, replica, problem, index))
        checkpoints.save_if_due(lambda: Checkpoint.of(problem, optimizers, records))
    problem.model.eval()
    _check_finite(problem.model)
    return records


def _check_finite(model: nn.Module) -> None:
    """Raise Diverged where a weight is NaN or infinite: the last step's loss cannot show it."""
    state = [value for value in model.state_dict().values() if value.is_floating_point()]
    if not bool(torch.stack([value.isfinite().all() for value in state]).all()):
        raise Diverged("weights are NaN or infinite after the last step")


def _train(phase: Phase[Any], replica: nn.Module, problem: Problem, index: int) -> PhaseRecord:
    # By phase, so that any phase can be the first one of a resumed run.
    names = ("stochastic layers", problem.workers.rank, index)
    torch.manual_seed(seeds.seed_for(problem.seed, *names))
    replica.train()
    shares: list[Tensor] = []
    for batch in phase.batches:
        phase.optimizer.zero_grad(set_to_none=True)
        share = phase.loss(replica, batch)
        # A replica averages gradients over workers; a share is already divided by the global batch.
        (share * problem.workers.size).backward()  # type: ignore[no-untyped-call]
        phase.edit_gradients(problem.model)
        phase.optimizer.step()
        shares.append(share.detach())
    losses = problem.workers.sum(torch.stack(shares)).tolist() if shares else []
    for step, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise Diverged(
                f"loss became {loss} at step {step} of phase {index}", where=f"phase {index}"
            )
    return PhaseRecord(losses=losses, notes=dict(phase.notes))
