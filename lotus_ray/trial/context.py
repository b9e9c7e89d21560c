"""The context of a group's cells: samples, workers, device, and the original once it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.base.roles import STORED
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.models import precision
from lotus_ray.models.state_dicts import read_weights
from lotus_ray.models.weights import file_digest, load_into
from lotus_ray.store.results import Store
from lotus_ray.trial.images import TrialImages
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.position import Position


@dataclass(frozen=True)
class Original:
    """The original of a group: every other cell starts from it."""

    model: nn.Module  # frozen, in eval mode
    logits: LogitsCache
    outputs: Outputs


@dataclass
class Context:
    """The context in which a group runs. `original` is set once it is trained or loaded."""

    work_order: WorkOrder
    store: Store
    trial_images: TrialImages
    dataset: ImageDataset
    workers: Workers
    device: torch.device
    facts: Mapping[str, Any]
    wait_for_original: Callable[[], None]  # see trial/original.py
    before_training: Callable[[], None]  # called before seconds are ranked
    position: Position  # of the cell that runs
    original: Original | None = None
    _is_checkpoint_checked: bool = False

    @property
    def group(self) -> CellGroup:
        """The group of cells that run here."""
        return self.work_order.group

    @property
    def is_first(self) -> bool:
        """True on the one worker that reads and writes the store."""
        return self.workers.rank == 0

    def initial_model(self, seed: int) -> nn.Module:
        """Return the initial network of training: fresh, pretrained or from a checkpoint.

        Args:
            seed: of fresh weights.

        Raises:
            JobError: the weights file cannot be read, or is not the one that was planned with.
        """
        group = self.group
        model = models.build(group.model, seed, "initial weights")
        if group.checkpoint:
            self._check_checkpoint(Path(group.checkpoint))
            weights = read_weights(Path(group.checkpoint), group.checkpoint_key)
            load_into(model, weights, where=group.checkpoint)
        return precision.prepare(model, group.precision, self.device)

    def _check_checkpoint(self, path: Path) -> None:
        """Raise JobError if a weights file is not the one whose digest is in the cells' specs."""
        if self._is_checkpoint_checked:
            return
        if file_digest(path) != self.group.original.spec["model"]["checkpoint"]:
            raise JobError(
                "the weights file is not the one that the grid was planned with",
                where=str(path),
                nearest="the same file on every node",
                next_command="run the same command again: it plans anew",
            )
        self._is_checkpoint_checked = True

    def random_model(self) -> nn.Module:
        """Return a frozen network with random weights, different from the initial network."""
        group = self.group
        fresh = replace(group.model, pretrained=False)
        model = models.build(fresh, group.seed, "random weights")
        return precision.prepare(model, group.precision, self.device).requires_grad_(False)

    def first_decides(self, answer: bool) -> bool:
        """Return the first worker's answer on every worker."""
        return bool(self.workers.from_first(torch.tensor(float(answer), device=self.device)))

    @property
    def role_names(self) -> np.ndarray:
        """The role of each sample, as a name."""
        names: np.ndarray = np.array(STORED)[self.dataset.roles.roles]
        return names
