"""Batch normalisation over the global batch, so that results do not depend on the workers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.nn import functional as differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from lotus_ray.errors import JobError


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of the global batch, over gloo.

    torch's own SyncBatchNorm runs on accelerators alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, H, W]; in eval mode exactly BatchNorm2d."""
        if not self.training:
            return super().forward(x)
        count = _sum(torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype))
        mean = _sum(x.sum(dim=(0, 2, 3))) / count
        centred = x - mean[None, :, None, None]
        variance = _sum(centred.square().sum(dim=(0, 2, 3))) / count
        self._follow(mean.detach(), (variance * count / (count - 1)).detach())
        scale: Tensor = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[None, :, None, None] + self.bias[None, :, None, None]

    def _follow(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_variance, self.momentum)


def _sum(values: Tensor) -> Tensor:
    """Return the sum over workers; gradients are summed over workers too."""
    total: Tensor = differentiable.all_reduce(values)  # type: ignore[no-untyped-call]
    return total


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch normalisation of `model` use the global batch; parameters stay the same.

    Returns:
        `model`, its BatchNorm children replaced in place.

    Raises:
        JobError: a kind of batch normalisation that cannot be synchronised on CPUs.
    """
    if device.type != "cpu":
        from timm.layers import convert_sync_batchnorm  # knows timm's fused norms too

        converted: nn.Module = convert_sync_batchnorm(model)
        return converted
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, _converted(child))
        elif isinstance(child, _BatchNorm) and not isinstance(child, CpuSyncBatchNorm2d):
            raise JobError(
                f"{type(child).__name__} of this network cannot share its statistics over several "
                "CPU workers, and results must not depend on their number",
                where="resources.workers",
                next_command="lotus-ray grid JOB.yaml --set resources.workers=1",
            )
        else:
            synchronise_batch_norm(child, device)
    return model


def _converted(norm: nn.BatchNorm2d) -> CpuSyncBatchNorm2d:
    """Share the parameters and buffers of `norm`; optimizers that hold them go on working."""
    converted = CpuSyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
    converted.weight, converted.bias = norm.weight, norm.bias
    converted.running_mean, converted.running_var = norm.running_mean, norm.running_var
    converted.num_batches_tracked = norm.num_batches_tracked
    return converted.train(norm.training)
