"""The networks of a job: each is built once without memory, checked, and its cost counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from lotus_ray.base.errors import JobError
from lotus_ray.job.cells import CellGroup
from lotus_ray.models import ModelSpec, build, pretrained
from lotus_ray.models.weights import load_into, read_weights


@dataclass(frozen=True)
class Network:
    """A network, its weights file, and the size of its images in pixels."""

    model: ModelSpec
    checkpoint: str | None
    img_size: int

    def check(self) -> float:
        """Build the network on the meta device and show it an image; nothing is computed.

        Returns:
            FLOP of the forward of one image.

        Raises:
            JobError: the network cannot be built, or does not take the images or the weights
                file; or its pretrained weights are not here, and the job is offline.
        """
        model, size = self.model, self.img_size
        counter = FlopCounterMode(display=False)
        if model.offline and model.pretrained:
            pretrained.check_here(model.name, model.pretrained)
        with torch.device("meta"):
            network = build(model.untrained, "check")
            try:
                with counter:
                    answer = network(torch.zeros(2, 3, size, size))
            except Exception as error:  # a foreign network raises anything
                raise JobError(
                    f"model {model.name} does not take images of {size} pixels: "
                    f"{str(error).splitlines()[0]}",
                    where="grid.datasets[].img_size",
                    next_command="give the model options: {img_size: …}, or change img_size",
                ) from error
        if answer.shape != (2, model.num_classes):
            raise JobError(f"model {model.name} answers with shape {tuple(answer.shape)}")
        if self.checkpoint:
            load_into(network, read_weights(Path(self.checkpoint)), where=self.checkpoint)
        return counter.get_total_flops() / 2


def networks(groups: Iterable[CellGroup]) -> list[Network]:
    """Return the network of each group."""
    return [Network(group.model, group.checkpoint, group.transform.img_size) for group in groups]


def check_networks(wanted: Iterable[Network]) -> list[float]:
    """Check networks; those that are equal are built once.

    Returns:
        For each one, the FLOP of the forward of one image.

    Raises:
        JobError: as `Network.check`.
    """
    checked: list[tuple[Network, float]] = []
    costs = []
    for network in wanted:
        cost = next((cost for other, cost in checked if other == network), None)
        if cost is None:
            cost = network.check()
            checked.append((network, cost))
        costs.append(cost)
    return costs
