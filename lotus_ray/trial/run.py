"""Run the cells of a group one after another, on one worker or on several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lotus_ray.base.memory import (
    keep_freed_memory,
    release_memory,
)
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models.precision import PRECISIONS
from lotus_ray.store.results import Store
from lotus_ray.trial.cell import run_cell
from lotus_ray.trial.context import Context
from lotus_ray.trial.images import TrialImages
from lotus_ray.unlearning.contract import Workers


def run_group(
    work_order: WorkOrder,
    trial_images: TrialImages,
    workers: Workers,
    device: torch.device,
    facts: Mapping[str, Any],
) -> None:
    """Run every missing cell of a group, and commit a row for each.

    Every worker calls this with the same work order. Only the first one uses the store.

    Args:
        work_order: the group and its missing cells.
        trial_images: the group's images on this worker's node.
        workers: the workers that share the work.
        device: of this worker.
        facts: from `machine_facts`, for the rows.

    Raises:
        Exception: see `run_cell`.
    """
    _warm_up()
    group = work_order.group
    dataset = ImageDataset(
        trial_images.pixels,
        trial_images.roles,
        group.transform,
        group.seed,
        device,
        PRECISIONS[group.precision].dtype,
        workers,
        stored=trial_images.stored,
        window=group.shuffle_window,
    )
    store = Store.open(work_order.store)
    context = Context(work_order, store, trial_images, dataset, workers, device, facts)
    for cell in group.cells:
        is_settled = context.is_first and work_order.is_settled(cell, store)
        if not context.first_decides(is_settled):
            run_cell(context, cell)
            release_memory()


def _warm_up() -> None:
    """Do slow first-time work, such as imports, before the clock of any cell starts."""
    import sklearn.linear_model  # noqa: F401

    keep_freed_memory()
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.1).step()
