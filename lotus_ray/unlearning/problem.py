"""Everything that a method may ask for.

A `Method` is given a `Problem` and yields the `Phase`s to train, in order. Nothing here knows of
storage, clocks or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lotus_ray.base import seeds
from lotus_ray.unlearning.contract import Batch, SampleSet, Workers
from lotus_ray.unlearning.journal import Journal
from lotus_ray.unlearning.logits_cache import LogitsCache, constant_logits
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.micro_batch import Answer, MicroBatch, Whole
from lotus_ray.unlearning.position import Position


@dataclass
class Problem:
    """What a method may use. `model` starts as a copy of `original` and is changed in place."""

    model: nn.Module
    original: nn.Module  # frozen, in eval mode
    forget: SampleSet
    retain: SampleSet
    other_train: SampleSet  # the original and the gold standard alone train on these
    unseen: SampleSet
    calibration: SampleSet  # how accurate the original is on images it never saw: often `unseen`
    num_classes: int
    head: str  # the dotted name of the layer that makes the logits
    blocks: tuple[tuple[str, ...], ...]  # of parameter names, from input to head; each in one
    num_rows: int  # of the table of roles
    batch_size: int  # of a global batch
    seed: int
    device: torch.device
    image_shape: tuple[int, int, int]  # 3, H, W
    pixel_range: tuple[Tensor, Tensor]  # [1, 3, 1, 1]: a black and a white pixel, normalised
    initial_model: Callable[[int], nn.Module]  # what training with a seed starts from
    random_model: Callable[[], nn.Module]  # never pretrained; frozen, in eval mode
    workers: Workers = field(default_factory=Workers)
    journal: Journal = field(default_factory=Journal)
    micro_batch: MicroBatch = field(default_factory=MicroBatch)
    position: Position = field(default_factory=Position)
    kept: dict[str, Tensor] | None = None  # the copy of `keep_weights`
    cached_logits: LogitsCache | None = None  # of the original, where some are computed already
    original_logits: LogitsCache = field(init=False)

    def __post_init__(self) -> None:
        self.original_logits = self.cached_logits or self._logits_of(self.original)

    def random_logits(self, samples: SampleSet) -> LogitsCache:
        """Return the logits of a random network on some samples.

        A network that gives every image the same logits runs on one image.
        """
        model = self.random_model()
        logits = self._logits_of(model)
        black = self.pixel_range[0].expand(1, *self.image_shape)
        constant = constant_logits(model, self.head, black)
        if constant is None:
            logits.compute_missing(samples)
        else:
            logits.set_default(constant)
        return logits

    def _logits_of(self, model: nn.Module) -> LogitsCache:
        return LogitsCache(model, self.num_rows, self.num_classes, self.workers)

    def uniform(self, batch: Batch, columns: int, *names: object) -> Tensor:
        """Draw uniform numbers [N, columns] keyed by (seed, *names, sample id)."""
        return seeds.uniform(batch.keys, columns, self.seed, *names)

    def in_parts(
        self,
        whole: Whole,
        split: Callable[[Whole, int], Sequence[Whole]],
        attempt: Callable[[Sequence[Whole]], Answer],
    ) -> Answer:
        """Call `attempt` with a step, or with parts of it that fit in memory.

        Every worker must call this. See `MicroBatch.run`.
        """
        return self.micro_batch.run(whole, split, attempt, workers=self.workers.size)

    def accuracy(self, model: nn.Module, samples: SampleSet) -> float:
        """Return the unrounded share of samples that `model` classifies correctly, in eval mode.

        The mode of the model is restored. No samples give NaN.
        """

        def hits(batch: Batch) -> Tensor:
            answer = self.original_logits(batch) if model is self.original else model(batch.images)
            return answer.argmax(dim=1) == batch.labels

        if model is self.original:
            self.original_logits.compute_missing(samples)

        return self.journal.answer(lambda: self._mean(model, samples, hits))

    def loss(self, model: nn.Module, samples: SampleSet) -> float:
        """Return the mean cross-entropy of `model` over samples, in eval mode.

        No samples give NaN.
        """

        def losses(batch: Batch) -> Tensor:
            return cross_entropy(model(batch.images), batch.labels)

        return self.journal.answer(lambda: self._mean(model, samples, losses))

    def keep_weights(self) -> None:
        """Keep a copy of the model's weights and buffers, in place of an earlier copy."""
        if not self.journal.replaying:
            self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}

    def recall_weights(self) -> None:
        """Restore the weights that were kept last. Without any, do nothing."""
        if self.kept is not None:
            self.model.load_state_dict(self.kept)

    def _mean(
        self, model: nn.Module, samples: SampleSet, values: Callable[[Batch], Tensor]
    ) -> float:
        """Return the mean of `values(batch)`, [N] each, over samples, in eval mode."""
        was_training = model.training
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for batch in samples:
                total += values(batch).sum(dtype=torch.float64)
        model.train(was_training)
        return float(self.workers.sum(total)) / len(samples) if len(samples) else float("nan")
