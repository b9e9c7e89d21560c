"""Problems of unlearning that take moments: a small network that has learned noisy images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from lotus_ray.bench.method_checks.toy import blobs, make_dataset, make_problem, make_roles
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import STUDENT, TEACHER, ForwardCounter
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.problem import Problem

LABELS = [index % 3 for index in range(96)]
IMAGES = blobs(96, 3, noise=100)
ROLES = make_roles("f" * 24 + "r" * 48 + "u" * 12 + "t" * 12, LABELS, 3)
# Some unseen samples carry a wrong label, so that the original is less accurate there.
ROLES.labels[72:76] = (ROLES.labels[72:76] + 1) % 3


class Small(nn.Module):
    """Two convolutions with batch normalisation, and a head `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 24, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, 3]."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class Plain(nn.Module):
    """Two convolutions without batch normalisation, and a head `fc`."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, 3]."""
        x = self.dropout(functional.gelu(self.conv1(images)))
        x = torch.tanh(self.conv2(x))
        logits: Tensor = self.fc(self.dropout(x).mean(dim=(2, 3)))
        return logits


def resnet() -> nn.Module:
    """Return a CIFAR ResNet-18 with 4 channels in its first stage."""
    return resnet18_cifar(num_classes=3, width=4)


@cache
def trained(network: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Train a network on forget and retain set; return its state.

    The images are so noisy that it learns many of them by heart: there is something to forget.
    """
    torch.manual_seed(0)
    stage = make_problem(network(), make_dataset(IMAGES, ROLES, seed=5))
    unlearn(Original(epochs=12, lr=0.05, batch_size=16), stage)
    return stage.model.state_dict()


def problem(
    workers: Workers | None = None,
    network: Callable[[], nn.Module] = resnet,
    batch_size: int = 16,
    dtype: torch.dtype = torch.float64,
    counter: ForwardCounter | None = None,
) -> Problem:
    """Build the problem of unlearning from a trained network.

    Args:
        workers: who share it; default one.
        network: builds the network.
        batch_size: of global batches.
        dtype: of weights and images.
        counter: counts the images that go through its networks; default none.
    """
    torch.manual_seed(0)
    fresh = network().to(dtype)
    model = network().to(dtype)
    model.load_state_dict(trained(network))
    dataset = make_dataset(IMAGES, ROLES, workers, seed=5, dtype=dtype)
    stage = make_problem(model, dataset, batch_size, initial_model=lambda seed: fresh)
    if counter is not None:
        random_model, watch = stage.random_model, counter.watch
        watch(stage.model, STUDENT)
        watch(stage.original, TEACHER)
        stage.random_model = lambda: watch(random_model(), TEACHER)
    return stage
