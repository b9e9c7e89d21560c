"""The recipe of the original and the gold standard. They differ in their samples alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.optim import AdamW, Optimizer

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.augment import Augmented
from lotus_ray.unlearning.contract import Batch, Phase, SampleSet
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.schedule import set_learning_rate


@dataclass(frozen=True)
class FromScratch(Method):
    """Minimise CE(f(x), y). The learning rate warms up, then decays, epoch by epoch.

    Args:
        epochs: number of epochs; 0 leaves the model as it is.
        lr: the highest learning rate.
        momentum: of SGD.
        weight_decay: of either optimizer.
        batch_size: rows of a global batch.
        warmup_epochs: epochs in which the learning rate rises linearly to `lr`.
        optimizer: "sgd" or "adamw".
        decay: "linear" or "none".
        patience: stop after so many epochs without a lower loss, and restore the weights of the
            lowest loss. The loss is that of unseen samples of the classes that are trained on.
            0 trains all epochs and keeps the last weights.
        crop_padding: pad each training image with so many black pixels on every side, and crop it
            back at random, anew in each epoch. Evaluation, teachers and unlearning see images as
            they are.
        flip: True to mirror half of the training images, drawn anew in each epoch.

    Source: Spartalis et al. 2025, recipes of the originals. Deviation: after the warm-up the rate
    falls an epoch later than theirs: in the last epoch it is `lr`/(epochs − warmup_epochs), and
    theirs is 0. With patience, the weights of the lowest loss are restored, where theirs mean
    to, and keep the last ones: their copy shares its memory with the model.
    """

    least_epochs: ClassVar[int] = 0
    maskable: ClassVar[bool] = False

    epochs: int = 0
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 512
    warmup_epochs: int = 0
    optimizer: str = "sgd"
    decay: str = "linear"
    patience: int = 0
    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in ("sgd", "adamw"):
            raise MethodError(f"optimizer '{self.optimizer}' is neither sgd nor adamw")
        if self.decay not in ("linear", "none"):
            raise MethodError(f"decay '{self.decay}' is neither linear nor none")
        if self.batch_size < 1:
            raise MethodError("batch_size must be at least 1")
        if self.warmup_epochs > self.epochs:
            raise MethodError(f"warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")

    @property
    def weight_copies(self) -> float:
        """Return 1 for momentum or 2 for AdamW, and 1 for the weights that patience keeps."""
        return (2.0 if self.optimizer == "adamw" else 1.0) + bool(self.patience)

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        if epoch < self.warmup_epochs:
            return self.lr * (epoch + 1) / self.warmup_epochs
        if self.decay == "none":
            return self.lr
        return self.lr * (self.epochs - epoch) / (self.epochs - self.warmup_epochs)

    def train(
        self, problem: Problem, samples: SampleSet, training_seed: int | None = None
    ) -> Iterator[Phase[Batch]]:
        """Yield the epochs that train `problem.model` on `samples`, from its initial weights.

        Args:
            problem: what to train.
            samples: what to train on.
            training_seed: of initial weights and order; default the problem's.

        Raises:
            MethodError: `patience` is given, and no image is unseen whose loss it could watch.
        """
        seed = problem.seed if training_seed is None else training_seed
        problem.model.load_state_dict(problem.initial_model(seed).state_dict())
        optimizer = self._optimizer(problem.model)
        # A class that is not trained on would outweigh the loss of the others.
        watched = problem.unseen.of_classes_in(samples)
        if self.patience and not len(watched):
            raise MethodError(
                f"{self.name}: no unseen image is of a class that is trained on, and patience "
                "watches the loss on such images",
                where="patience",
                nearest="patience: 0",
                next_command="lotus-ray validate JOB.yaml",
            )
        lowest, epochs_since = math.inf, 0
        for epoch in range(self.epochs):
            rate = self.learning_rate(epoch)
            set_learning_rate(optimizer, rate)
            yield Phase(
                batches=self._epoch(problem, samples, seed, epoch),
                loss=label_loss,
                optimizer=optimizer,
                notes={"lr": rate},
            )
            if not self.patience:
                continue
            loss = problem.loss(problem.model, watched)
            epochs_since += 1
            if loss < lowest:
                lowest, epochs_since = loss, 0
                problem.keep_weights()
            if epochs_since == self.patience:
                break
        problem.recall_weights()

    def _epoch(
        self, problem: Problem, samples: SampleSet, seed: int, epoch: int
    ) -> Iterable[Batch]:
        batches = samples.shuffled(self.batch_size, "from scratch", seed, epoch)
        if not self.crop_padding and not self.flip:
            return batches
        black, _ = problem.pixel_range
        names = (problem.seed, "augment", seed, epoch)
        return Augmented(batches, self.crop_padding, self.flip, black, names)

    def _optimizer(self, model: nn.Module) -> Optimizer:
        if self.optimizer == "adamw":
            return AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        return sgd(model, self)
