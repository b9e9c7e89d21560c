"""The only training step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotus_ray.base import seeds
from lotus_ray.base.errors import Diverged, JobError
from lotus_ray.unlearning.checkpoint import NO_CHECKPOINTS, Checkpoint, CheckpointStore, PhaseRecord
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

ONE_VALUE = "Expected more than 1 value per channel"  # how torch's normalisations begin


def unlearn(
    method: Method, problem: Problem, checkpoints: CheckpointStore = NO_CHECKPOINTS
) -> list[PhaseRecord]:
    """Run a method: change `problem.model` in place and leave it in eval mode.

    Args:
        method: a method with its hyper-parameters.
        problem: models, samples and workers. Every worker calls this with its own share.
        checkpoints: where the last checkpoint of this run is, and where new ones go; default none.

    Returns:
        One record for each phase; none for a method that yields no phase.

    Raises:
        Diverged: a loss, or a weight at the end, is NaN or infinite.
        JobError: a batch of one image, from which a normalisation can learn no variance; or
            several workers, and a parameter that takes no part in the loss.
    """
    records: list[PhaseRecord] = []
    optimizers: list[Optimizer] = []
    replica: nn.Module | None = None
    checkpoint = checkpoints.load()
    if checkpoint:
        checkpoint.start_replay(problem)
    for index, phase in enumerate(method.phases(problem)):
        if not any(phase.optimizer is other for other in optimizers):
            optimizers.append(phase.optimizer)
        if checkpoint:
            records.append(checkpoint.records[index])
            if len(records) == len(checkpoint.records):
                checkpoint.restore(problem, optimizers)
                checkpoint = None  # frees its copy of the weights
                checkpoints.restored()
            continue
        if replica is None:
            replica = problem.workers.replicate(problem.model)
        records.append(_train(phase, replica, problem, index))
        checkpoints.save_if_due(lambda: Checkpoint.of(problem, optimizers, records))
    problem.model.eval()
    _check_weights(problem.model)
    return records


def _train(phase: Phase[Any], replica: nn.Module, problem: Problem, index: int) -> PhaseRecord:
    """Train one phase: one optimizer step for each of its batches.

    Args:
        phase: what to train.
        replica: calls `problem.model` and averages its gradients over workers.
        problem: model, seed and workers.
        index: of the phase in the run. It seeds dropout and the like, so that a resumed run can
            start at any phase.
    """
    names = ("stochastic layers", problem.workers.rank, index)
    torch.manual_seed(seeds.seed_for(problem.seed, *names))
    replica.train()
    shares: list[Tensor] = []
    for batch in phase.batches:
        phase.optimizer.zero_grad(set_to_none=True)
        with _explaining_one_image(index):
            share = phase.loss(replica, batch)
        # A replica averages gradients over workers; a share is already divided by the global batch.
        (share * problem.workers.size).backward()  # type: ignore[no-untyped-call]
        if not shares and problem.workers.size > 1:
            _check_gradients(problem.model)
        with _explaining_one_image(index):  # MUNBa takes another gradient here
            phase.edit_gradients(problem.model)
        phase.optimizer.step()
        shares.append(share.detach())
    losses = problem.workers.sum(torch.stack(shares)).tolist() if shares else []
    _check_losses(losses, index)
    return PhaseRecord(losses=losses, notes=dict(phase.notes))


@contextmanager
def _explaining_one_image(index: int) -> Iterator[None]:
    """Say what to do where torch refuses to normalise a single value a channel."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if ONE_VALUE not in str(error):
            raise
        raise JobError(
            "a batch holds one image, and its features have shrunk to one pixel where the network "
            "normalises them over the batch: one value has no variance",
            where=f"phase {index}",
            next_command="train on two images or more with a batch_size of at least 2, take a "
            "larger img_size, or a network without batch normalisation",
        ) from error


def _check_gradients(model: nn.Module) -> None:
    """Raise JobError if a parameter took no part: replicas wait for the gradient of each."""
    unused = [
        n for n, value in model.named_parameters() if value.requires_grad and value.grad is None
    ]
    if unused:
        raise JobError(
            f"several workers cannot train a network in which parameters take no part: {unused[0]}"
            + (f" and {len(unused) - 1} others" if len(unused) > 1 else ""),
            where="resources.workers",
            next_command="lotus-ray grid JOB.yaml --set resources.workers=1",
        )


def _check_losses(losses: list[float], index: int) -> None:
    for step, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise Diverged(
                f"loss became {loss} at step {step} of phase {index}", where=f"phase {index}"
            )


def _check_weights(model: nn.Module) -> None:
    """Raise Diverged if a weight is NaN or infinite: the last step's loss cannot show it."""
    state = [value for value in model.state_dict().values() if value.is_floating_point()]
    if not bool(torch.stack([value.isfinite().all() for value in state]).all()):
        raise Diverged("weights are NaN or infinite after the last step")
