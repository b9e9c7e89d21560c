"""The problem that a method is given: samples by role, models and workers."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lotus_ray.base.roles import CALIBRATION, FORGET, OTHER_TRAIN, RETAIN, UNSEEN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.models.layout import blocks_of, head_of
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.forward_counter import STUDENT, TEACHER, ForwardCounter
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.problem import Problem


def make_problem(
    dataset: ImageDataset,
    model: nn.Module,
    original: nn.Module,
    *,
    batch_size: int,
    forwards: ForwardCounter,
    initial_model: Callable[[int], nn.Module],
    random_model: Callable[[], nn.Module],
    workers: Workers | None = None,
    cached_logits: LogitsCache | None = None,
    head: str | None = None,
) -> Problem:
    """Return the problem of one cell.

    Args:
        dataset: images, roles, seed and device.
        model: the network to change.
        original: the network before unlearning, frozen, in eval mode.
        batch_size: rows of a global batch.
        forwards: counts what passes through the networks.
        initial_model: returns what training with a seed starts from.
        random_model: returns a network that was never trained, frozen, in eval mode.
        workers: who share the work; default those of the data set.
        cached_logits: the original's, where some are computed already.
        head: the layer that makes the logits; default what is known of the network.

    Raises:
        JobError: no layer of the network is known to make its logits.
    """
    return Problem(
        model=forwards.watch(model, STUDENT),
        original=forwards.watch(original, TEACHER),
        forget=dataset.split(FORGET),
        retain=dataset.split(RETAIN),
        other_train=dataset.split(OTHER_TRAIN),
        unseen=dataset.split(UNSEEN),
        calibration=dataset.split(CALIBRATION) or dataset.split(UNSEEN),
        num_classes=dataset.roles.num_classes,
        head=head or head_of(model),
        blocks=blocks_of(model, head),
        num_rows=len(dataset.roles),
        batch_size=batch_size,
        seed=dataset.seed,
        device=dataset.device,
        image_shape=dataset.pixels.shape,
        pixel_range=dataset.pixel_range,
        initial_model=initial_model,
        random_model=lambda: forwards.watch(random_model(), TEACHER),
        workers=workers or dataset.workers,
        cached_logits=cached_logits,
    )
