"""The relearn curve: does a little training on images to keep bring forgotten images back?

Source: the attack of Siddiqui et al. 2025 (arXiv 2505.22310): fine-tune the unlearned model on
retained images alone, and measure forget accuracy. A model that was retrained without the forget
set does not recover it; one that hides it does. Deviation: few steps on few images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from lotus_ray import models
from lotus_ray.base.errors import Diverged, JobError
from lotus_ray.base.memory import is_out_of_memory
from lotus_ray.base.roles import FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.subset import ImageSubset
from lotus_ray.metrics import relearn
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.models import precision
from lotus_ray.trial.context import Context
from lotus_ray.unlearning import engine
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.journal import Journal
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.endless import endless
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.micro_batch import MicroBatch
from lotus_ray.unlearning.position import Position
from lotus_ray.unlearning.problem import Problem

_NAME = "relearn"
_LEAST = 2  # images: of one, batch normalisation has no variance


@dataclass(frozen=True)
class Relearning(Method):
    """Minimise CE(f(x), y) over some retained images, and measure in between."""

    name: ClassVar[str] = _NAME
    label: ClassVar[str] = "Relearning"

    points: tuple[int, ...]  # steps after which `measure` is called; the first is 0
    batch_size: int
    lr: float
    measure: Callable[[], None]
    momentum: float = 0.9
    weight_decay: float = 0.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase between two measurements. The first one is not made here."""
        optimizer = sgd(problem.model, self)
        batches = endless(problem.retain, self.batch_size, _NAME)
        for begin, end in pairwise(self.points):
            yield Phase(islice(batches, end - begin), label_loss, optimizer)
            self.measure()


@dataclass(frozen=True)
class MeasuredImages:
    """The images that a curve is measured on, and how each class of them counts."""

    forget: ImageSubset
    heldout: ImageSubset  # of the same classes
    share: np.ndarray  # [C]: share of each class in `forget`
    available: np.ndarray  # [C]: images of each class in `heldout`

    @classmethod
    def drawn(cls, dataset: ImageDataset, most: int) -> MeasuredImages:
        """Draw up to `most` images to forget, and about as many held-out ones of their classes.

        Seed and sample ids decide which. No class of the forget set loses all its held-out images.
        """
        forget = _at_most(dataset.split(FORGET), most)
        share = _by_class(dataset, forget) / max(len(forget), 1)
        each = math.ceil(most / max(int((share > 0).sum()), 1))
        heldout = dataset.split(UNSEEN, TEST).of_classes_in(forget).at_most(each, _NAME)
        return cls(forget, heldout, share, _by_class(dataset, heldout))

    @property
    def has_reference(self) -> bool:
        """True if each class of the forget set has held-out images."""
        return bool((self.available[self.share > 0] > 0).all())

    @property
    def effective(self) -> float:
        """Kish's effective number of the held-out images: classes weigh as in the forget set."""
        used = self.share > 0
        return float(1 / (self.share[used] ** 2 / self.available[used]).sum())

    def of_heldout(self, right: np.ndarray) -> float:
        """Return the accuracy on held-out images, in the mix of classes of the forget set.

        Args:
            right: how many of each class are right, [C].
        """
        used = self.share > 0
        accuracy = (self.share[used] * right[used] / self.available[used]).sum()
        return min(float(accuracy), 1.0)  # the shares may add up to a little more than 1


def relearn_curve(
    context: Context, problem: Problem, outputs: Outputs, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure the curve on a copy of a model. Every worker calls this, and gets the same result.

    Args:
        context: of the group.
        problem: of the cell, whose model has unlearned. Nothing of it changes.
        outputs: of that model.
        settings: `Relearn.spec`.

    Returns:
        See `curve_of`; where the memory runs out, `undefined` alone.
    """
    copied = replace(
        problem,
        model=_copy(context, problem.model),
        workers=context.workers,  # without compilation: it takes longer than these few steps
        journal=Journal(),
        micro_batch=MicroBatch(problem.micro_batch.most, problem.micro_batch.is_auto),
        position=Position(),
        kept=None,
        cached_logits=problem.original_logits,
    )
    try:
        return curve_of(copied, context.dataset, outputs, settings)
    except (RuntimeError, MemoryError) as error:
        if context.workers.size > 1 or not is_out_of_memory(error):
            raise
        return {"undefined": "the memory ran out"}


def curve_of(
    problem: Problem, dataset: ImageDataset, outputs: Outputs, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Train the model of a problem on a few retained images, and measure it in between.

    Args:
        problem: its model and its retain set change.
        dataset: all images.
        outputs: of the model, which give the point at step 0.
        settings: `Relearn.spec`.

    Returns:
        `steps`, and at each the accuracies `forget` and `unseen` (of held-out images, in the mix of
        classes of the forget set; missing if one of these classes has none); how many `images` were
        learned from, `forget_images` and `unseen_images` were measured, and `unseen_effective`;
        `batch_size` and `lr`. Or `undefined` alone: why there is no curve.
    """
    sets = MeasuredImages.drawn(dataset, settings["evaluated"])
    retain = _at_most(dataset.split(RETAIN), settings["images"])
    if not len(sets.forget):
        return {"undefined": "there is no image to forget"}
    if len(retain) < _LEAST:
        return {"undefined": f"learning takes {_LEAST} images to keep or more"}
    points = relearn.points(settings["steps"], settings["every"])
    right = [(_known(outputs, sets.forget), _known(outputs, sets.heldout))]

    def measure() -> None:
        right.append((right_by_class(problem, sets.forget), right_by_class(problem, sets.heldout)))

    method = Relearning(tuple(points), settings["batch_size"], settings["lr"], measure)
    problem.retain = retain
    try:
        engine.unlearn(method, problem)
    except (Diverged, JobError) as error:  # the same on every worker
        return {"undefined": error.what}
    curve: dict[str, Any] = {
        "steps": points,
        "forget": [float(forget.sum()) / len(sets.forget) for forget, _ in right],
        "images": len(retain),
        "forget_images": len(sets.forget),
        "batch_size": settings["batch_size"],
        "lr": settings["lr"],
    }
    if sets.has_reference:
        curve |= {
            "unseen": [sets.of_heldout(heldout) for _, heldout in right],
            "unseen_images": len(sets.heldout),
            "unseen_effective": sets.effective,
        }
    return curve


def _at_most(samples: ImageSubset, count: int) -> ImageSubset:
    """Return up to `count` samples, with its part of each class. Seed and ids decide which."""
    return samples if len(samples) <= count else samples.subset(count / len(samples), _NAME)


def _copy(context: Context, model: nn.Module) -> nn.Module:
    """Return a network of its own with the weights and buffers of a model.

    Not a deep copy: that would have the model's hooks, which count its images.
    """
    group = context.group
    network = models.build(group.model.untrained, group.seed, _NAME)
    network = precision.prepare(network, group.precision, context.device)
    network.load_state_dict(model.state_dict())
    return network.requires_grad_(True)


def _by_class(dataset: ImageDataset, samples: ImageSubset) -> np.ndarray:
    """Return how many samples each class has, int64 [C]."""
    return np.bincount(dataset.labels.numpy()[samples.rows], minlength=dataset.roles.num_classes)


def _known(outputs: Outputs, samples: ImageSubset) -> np.ndarray:
    """Return how many samples of each class a model was right about, [C]."""
    labels = outputs.labels[samples.rows]
    right = outputs.predicted[samples.rows] == labels
    return np.bincount(labels[right], minlength=outputs.forget_probs.shape[1])


def right_by_class(problem: Problem, samples: ImageSubset) -> np.ndarray:
    """Return how many samples of each class the model is right about, [C]; the sum over workers."""
    problem.model.eval()
    total = torch.zeros(problem.num_classes, dtype=torch.float64, device=problem.device)
    with torch.inference_mode():
        for batch in samples:
            right = problem.model(batch.images).argmax(dim=1) == batch.labels
            total.index_add_(0, batch.labels, right.double())
    counts: np.ndarray = problem.workers.sum(total).cpu().numpy()
    return counts
