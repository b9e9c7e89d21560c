"""The problem of one cell: its network, the original, and the group's samples."""

from __future__ import annotations

import copy

from lotus_ray.data.batches.problem import make_problem
from lotus_ray.job.cells import Cell
from lotus_ray.trial.context import Context
from lotus_ray.trial.original import load_original
from lotus_ray.unlearning.compile import compiling
from lotus_ray.unlearning.find_method import described_method
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.problem import Problem


def cell_problem(context: Context, cell: Cell, forwards: ForwardCounter) -> Problem:
    """Return the problem that a cell's method is given.

    Methods start from the original, which is loaded if it is not at hand. The original and the gold
    standard start from the initial network.

    Args:
        context: of the group.
        cell: the cell.
        forwards: counts what passes through the networks.

    Raises:
        CellError: the original failed.
        StoreError: the original cannot be read.
    """
    if issubclass(described_method(cell.spec["method"]), FromScratch):
        model = context.initial_model(context.group.seed)
        original, logits = copy.deepcopy(model).requires_grad_(False), None
    else:
        teacher = context.original = context.original or load_original(context, forwards)
        model = copy.deepcopy(teacher.model).requires_grad_(True)
        original, logits = teacher.model, teacher.logits
    workers = context.workers
    return make_problem(
        context.dataset,
        model,
        original,
        batch_size=cell.spec.get("batch_size", context.group.batch_size),
        forwards=forwards,
        initial_model=context.initial_model,
        random_model=context.random_model,
        workers=compiling(workers) if context.work_order.compile else workers,
        cached_logits=logits,
    )
