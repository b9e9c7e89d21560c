"""Two ResNet-18s for small images, with a 3×3 stem: the usual one, and that of the LoTUS paper."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

# in_channels, channels and stride of a block -> its shortcut
Shortcut = Callable[[int, int, int], nn.Module]


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Return a normalised 1×1 convolution where the shape changes; elsewhere nothing."""
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


def _bare_shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    return nn.Conv2d(in_channels, channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Stem, four stages of two blocks, average pooling, linear head `fc`."""

    def __init__(self, num_classes: int, width: int, shortcut: Shortcut, pool: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = pool
        self.layer1 = _stage(width, width, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, 2, shortcut)
        self.layer4 = _stage(4 * width, 8 * width, 2, shortcut)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, num_classes]."""
        x = self.pool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _stage(in_channels: int, channels: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride, shortcut),
        BasicBlock(channels, channels, 1, shortcut),
    )


def resnet18_cifar(num_classes: int, width: int = 64) -> ResNet18:
    """Build the usual CIFAR ResNet-18: no pooling before the first stage.

    Args:
        num_classes: number of logits.
        width: channels of the first stage; 64 is the usual model (11.2 M weights).

    Returns:
        A module that maps images [N, 3, H, W] to logits [N, num_classes].

    Source: He et al. 2016, with the 3×3 stem common for 32-pixel images. Deviation: `width`.
    """
    return ResNet18(num_classes, width, _shortcut, nn.Identity())


def resnet18_lotus(num_classes: int, width: int = 64) -> ResNet18:
    """Build the ResNet-18 of the LoTUS paper.

    A 3×3 max-pool of stride 2 follows the stem, so that stages see half as many pixels a side, and
    every block has a 1×1 convolution without normalisation on its shortcut.

    Args:
        num_classes: number of logits.
        width: channels of the first stage; 64 is the paper's model (11.5 M weights).

    Returns:
        A module that maps images [N, 3, H, W] to logits [N, num_classes].

    Source: the code of Spartalis et al. 2025. Deviation: `width`.
    """
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return ResNet18(num_classes, width, _bare_shortcut, pool)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet18_cifar": resnet18_cifar,
    "resnet18_lotus": resnet18_lotus,
}
