"""Build and check the networks of a job, and compare their costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lotus_ray.base.errors import JobError
from lotus_ray.job.cells import CellGroup
from lotus_ray.models import ModelSpec, build, pretrained
from lotus_ray.models.image_size import smallest_images, why_not_trained
from lotus_ray.models.layout import head_of
from lotus_ray.models.state_dicts import read_weights
from lotus_ray.models.weights import load_into

# Parameters × pixels: an upper bound on a forward's products. Below it, the CPU is quick.
SMALL = 1 << 30


@dataclass(frozen=True)
class Network:
    """A network, its weights file, and the size of its images in pixels."""

    model: ModelSpec
    checkpoint: str | None
    img_size: int
    checkpoint_key: str | None = None

    def check(self) -> None:
        """Build the network, and run it on blank images.

        Raises:
            JobError: the network cannot be built, does not accept the images or the weights file,
                or cannot be trained; or its pretrained weights are not cached, and the job is
                offline.
        """
        model = self.model
        if model.offline and model.pretrained:
            pretrained.check_here(model.name, model.pretrained)
        network, device = self._build()
        logits = self._show_images(network, device)
        if logits.shape != (2, model.num_classes):
            raise JobError(
                f"model {model.name} answers with shape {list(logits.shape)}, and the job needs "
                f"[2, {model.num_classes}]: a logit for each class, of two images",
                where="grid.models",
            )
        head_of(network)
        reason = why_not_trained(network, self.img_size, model.num_classes)
        if reason:
            raise JobError(
                f"model {model.name} cannot be trained with images of {self.img_size} pixels: "
                f"{reason}",
                where="grid.models",
                nearest=self._size(),
                next_command="lotus-ray list models",
            )
        if self.checkpoint:
            weights = read_weights(Path(self.checkpoint), self.checkpoint_key)
            load_into(network, weights, where=self.checkpoint)

    def flops(self) -> float:
        """Check the network, and return the FLOP of the forward of one image."""
        from torch.utils.flop_counter import FlopCounterMode  # its import takes a second

        with FlopCounterMode(display=False) as counter:
            self.check()
        return float(counter.get_total_flops()) / 4  # two images, in eval and in training mode

    def bytes_to_download(self) -> int:
        """Return about how many bytes of pretrained weights this machine lacks: 4 a weight."""
        model = self.model
        if not model.pretrained or pretrained.missing(model.name, model.pretrained) is None:
            return 0
        with torch.device("meta"):
            network = build(model.untrained, "check")
        weights: int = sum(weight.numel() for weight in network.state_dict().values())
        return 4 * weights

    def _build(self) -> tuple[nn.Module, str]:
        """Build the network; return it and its device: the CPU, or the meta device if it is large.

        The meta device needs no memory and computes nothing, but its first use takes two seconds.
        """
        with torch.device("meta"):
            network = build(self.model.untrained, "check")
        parameters = sum(parameter.numel() for parameter in network.parameters())
        if parameters * self.img_size**2 < SMALL:
            return build(self.model.untrained, "check"), "cpu"
        return network, "meta"

    def _show_images(self, network: nn.Module, device: str) -> Tensor:
        """Return the logits of two blank images."""
        size = self.img_size
        try:
            with torch.no_grad(), torch.device(device):
                logits: Tensor = network(torch.zeros(2, 3, size, size))
        except Exception as error:  # networks of other packages can raise any error
            raise JobError(
                f"model {self.model.name} does not take images of {size} pixels: "
                f"{str(error).splitlines()[0]}",
                where="grid.datasets[].img_size",
                nearest=self._size(),
                next_command="give the model options: {img_size: …}, or change img_size",
            ) from error
        return logits

    def _size(self) -> str:
        """Say which images the network takes, or nothing where it cannot be said."""
        try:
            with torch.device("meta"):
                network = build(self.model.untrained, "check")
            size = smallest_images(self.model.name, network, self.model.num_classes)
        except JobError:
            return ""
        return f"images of {size}"


def networks(groups: Iterable[CellGroup]) -> list[Network]:
    """Return the network of each group."""
    return [network_of(group) for group in groups]


def network_of(group: CellGroup) -> Network:
    """Return the network of a group."""
    return Network(group.model, group.checkpoint, group.transform.img_size, group.checkpoint_key)


def check_networks(wanted: Iterable[Network]) -> None:
    """Check networks. Equal networks are built once.

    Raises:
        JobError: see `Network.check`.
    """
    for network in distinct_networks(wanted):
        network.check()


def compare_costs(wanted: Sequence[Network]) -> list[float]:
    """Check networks, and compare the costs of their forwards.

    Returns:
        FLOP of the forward of one image, for each network; 1 for each if all are equal.

    Raises:
        JobError: see `Network.check`.
    """
    distinct = distinct_networks(wanted)
    if len(distinct) < 2:
        check_networks(distinct)
        return [1.0] * len(wanted)
    return flops_of(wanted)


def flops_of(wanted: Sequence[Network]) -> list[float]:
    """Check networks, and return the FLOP of the forward of one image for each.

    Raises:
        JobError: see `Network.check`.
    """
    distinct = distinct_networks(wanted)
    flops = [network.flops() for network in distinct]
    return [flops[distinct.index(network)] for network in wanted]


def distinct_networks(wanted: Iterable[Network]) -> list[Network]:
    """Return each network once. Options are dicts, so a network has no hash."""
    distinct: list[Network] = []
    for network in wanted:
        if network not in distinct:
            distinct.append(network)
    return distinct
