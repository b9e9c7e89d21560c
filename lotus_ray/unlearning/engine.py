"""The only training step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotus_ray.base.errors import Diverged, JobError
from lotus_ray.unlearning.checkpoint import NO_CHECKPOINTS, Checkpoint, CheckpointStore, PhaseRecord
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.obstacle import batch_statistics_layer, obstacle_to_parts
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.progress import Progress

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
        JobError: a batch of one image, from which a normalisation can learn no variance;
            several workers, and a parameter that takes no part in the loss; or a job that asks
            for micro-batches, and a method or a network that cannot run in parts.
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
        progress = None
        if checkpoint:
            records += checkpoint.records[index : index + 1]
            if checkpoint.is_reached(index):
                if index == len(records):
                    progress = checkpoint.progress(phase, problem.workers)
                checkpoint.restore(problem, optimizers)
                checkpoint = None  # frees its copy of the weights
                checkpoints.restored()
            if progress is None:
                continue
        progress = progress or Progress(problem.workers, iter(phase.batches))
        state = partial(Checkpoint.of, problem, optimizers, records)
        look = partial(_look, checkpoints, phase, progress, partial(state, progress))
        if replica is None:
            replica = problem.workers.replicate(problem.model)
        records.append(_train(method, phase, replica, problem, index, progress, look))
        checkpoints.save_if_due(state)
    problem.model.eval()
    _check_weights(problem.model)
    return records


def _look(
    checkpoints: CheckpointStore,
    phase: Phase[Any],
    progress: Progress,
    checkpoint: Callable[[], Checkpoint],
) -> None:
    """After a step: keep a checkpoint within the phase if it is time for one."""
    checkpoints.step_ended()
    if progress.is_time(checkpoints.wants_to_look) and phase.resumable:
        checkpoints.save_if_due(checkpoint)


def _train(
    method: Method,
    phase: Phase[Any],
    replica: nn.Module,
    problem: Problem,
    index: int,
    progress: Progress,
    look: Callable[[], None],
) -> PhaseRecord:
    """Train one phase: one optimizer step for each of its batches that are left.

    A step runs in parts where `problem.micro_batch` says so; the gradient is that of the whole
    step, but dropout and stochastic depth draw other numbers than for the whole.

    Args:
        method: whose phase it is.
        phase: what to train.
        replica: calls `problem.model` and averages its gradients over workers.
        problem: model, seed and workers.
        index: of the phase in the run. It seeds dropout and the like, so that a resumed run can
            start at any phase.
        progress: of the phase; it has the batches.
        look: called after each step.
    """
    replica.train()
    phase.set_mode(problem.model)
    problem.micro_batch.obstacle = obstacle_to_parts(method, batch_statistics_layer(problem.model))
    unchecked = problem.workers.size > 1
    problem.position.move(index + 1, progress.steps, None)
    for step in progress.batches:
        progress.seed_layers(problem, index)
        share = problem.in_parts(
            step,
            phase.split,
            lambda parts: _add_gradients(phase, replica, parts, problem.workers.size, index),
        )
        if unchecked:
            _check_gradients(problem.model)
            unchecked = False
        with _explaining_one_image(index):  # MUNBa takes another gradient here
            phase.edit_gradients(problem.model)
        phase.optimizer.step()
        progress.add(share)
        problem.position.move(index + 1, progress.steps, share)
        look()
    problem.micro_batch.obstacle = None  # between phases, gradients are taken in eval mode
    losses = progress.losses()
    _check_losses(losses, index)
    return PhaseRecord(losses=losses, notes=dict(phase.notes))


def _add_gradients(
    phase: Phase[Any], replica: nn.Module, parts: Sequence[Any], workers: int, index: int
) -> Tensor:
    """Put the gradients of a step into the parameters; return this worker's share of the loss.

    Args:
        phase: of the step.
        replica: calls the model. With several workers it has `no_sync`, as DDP has.
        parts: of the step. Gradients go over to other workers after the last one.
        workers: number of workers.
        index: of the phase, for errors.
    """
    phase.optimizer.zero_grad(set_to_none=True)
    shares = []
    for place, part in enumerate(parts, 1):
        is_apart = workers > 1 and place < len(parts)
        with replica.no_sync() if is_apart else nullcontext():  # type: ignore[operator]
            with _explaining_one_image(index):
                share = phase.loss(replica, part)
            # A replica averages gradients; a share is already divided by the global batch.
            (share * workers).backward()  # type: ignore[no-untyped-call]
        shares.append(share.detach())
    return shares[0] if len(shares) == 1 else torch.stack(shares).sum()


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
