"""The whole contract between data, methods and the engine.

A `Method` is given a `Problem` and yields the `Phase`s to train, in order; what it does between
two yields is its own. Everything a method may ask for stands here, and nothing here knows of
storage, clocks or Ray.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotus_ray.base import seeds
from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.losses import cross_entropy


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch of `total` rows. N is the number of rows here."""

    images: Tensor  # [N, 3, H, W], normalised
    labels: Tensor  # [N], int64
    rows: Tensor  # [N], int64: place of each sample in the table of roles
    keys: Tensor  # [N], int64: hash of each sample id, for `seeds`
    forget: Tensor  # [N], bool: whether the sample belongs to the forget set
    total: int

    def mean(self, values: Tensor) -> Tensor:
        """Return this worker's share of the mean over the global batch of `values` [N]."""
        return values.sum() / self.total


class SampleSet(Protocol):
    """Samples that can be walked over again and again; len() counts them over all workers."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's share, each sample once over all workers, in a fixed order."""

    def shuffled(self, batch_size: int, *names: object) -> Iterable[Batch]:
        """Return one epoch in the order that (seed, *names) gives, in global batches."""

    def subset(self, fraction: float, *names: object) -> Self:
        """Return a fixed random part of every class, drawn from (seed, *names)."""

    def at_most(self, per_class: int, *names: object) -> Self:
        """Return up to so many samples of every class, drawn from (seed, *names)."""

    def draw(self, count: int, *names: object) -> Self:
        """Return so many samples drawn from (seed, *names), each as often as any, or once more."""

    def union(self, other: Self) -> Self:
        """Return the samples of both."""

    def without(self, rows: Tensor) -> Self:
        """Return the samples that are not at `rows`, int64 [n]."""

    def of_classes_in(self, other: Self) -> Self:
        """Return the samples whose class occurs in `other`."""


def unchanged(value: Tensor) -> Tensor:
    """Return the tensor itself: the sum over one worker."""
    return value


def itself(model: nn.Module) -> nn.Module:
    """Return the model itself: the replica of one worker."""
    return model


def never() -> bool:
    """Return False: nobody takes away the machine."""
    return False


@dataclass(frozen=True)
class Workers:
    """The workers that share this problem; the default is one alone.

    `sum` adds a tensor over workers. `replicate` returns a module that calls the model and
    averages its gradients over workers. `leaving` says whether a machine of theirs is about to be
    taken away; they ask each other, so all have to call it.
    """

    rank: int = 0
    size: int = 1
    sum: Callable[[Tensor], Tensor] = unchanged
    replicate: Callable[[nn.Module], nn.Module] = itself
    leaving: Callable[[], bool] = never

    def from_first(self, tensor: Tensor) -> Tensor:
        """Return the first worker's tensor on every worker; shapes and types must agree."""
        return self.sum(tensor if self.rank == 0 else torch.zeros_like(tensor))


class LogitsCache:
    """The logits of a frozen network, each sample's computed once, before they are asked for.

    Valid because images are transformed deterministically and the network is in eval mode. They
    are computed in the order of a split and not of an epoch: a batch of another make-up may round
    otherwise, and a run that goes on from a checkpoint meets other batches first.
    """

    def __init__(self, model: nn.Module, num_rows: int, num_classes: int, workers: Workers) -> None:
        self._model = model
        self._workers = workers
        like = next(model.parameters())
        # [1 + n, C] of the n rows that are known, behind a row of NaN for the others: a loss that
        # asks for what nobody computed diverges, and no step has to look.
        self._logits = like.new_full((1, num_classes), torch.nan)
        self._place = torch.zeros(num_rows, dtype=torch.int64, device=like.device)  # in `_logits`

    @property
    def known(self) -> Tensor:
        """Return the rows whose logits are known, int64 [n]."""
        return self._place.nonzero()[:, 0]

    def know(self, rows: Tensor, logits: Tensor) -> None:
        """Take over logits [n, C] of `rows`, int64 [n], that were computed before."""
        rows = rows.to(self._place.device)
        self._place[rows] = len(self._logits) + torch.arange(len(rows), device=rows.device)
        self._logits = torch.cat([self._logits, logits.to(self._logits)])

    def fill(self, split: SampleSet) -> None:
        """Compute what is not known of a split, each sample on one worker, for all of them."""
        missing = split.without(self.known)
        if not len(missing):
            return
        found = [(torch.zeros_like(self._place[:0]), self._logits[:0])]
        with torch.inference_mode():
            found += [(batch.rows, self._model(batch.images)) for batch in missing]
        ours, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        place = torch.zeros_like(self._place)
        place[ours] = 1
        rows = self._workers.sum(place).nonzero()[:, 0]
        place[rows] = torch.arange(len(rows), device=rows.device)
        everyones = logits.new_zeros(len(rows), logits.shape[1])
        everyones[place[ours]] = logits
        self.know(rows, self._workers.sum(everyones))

    def assume(self, logits: Tensor) -> None:
        """Take logits [C] for those of every sample that is not known."""
        self._logits[0] = logits

    def of(self, rows: Tensor) -> Tensor:
        """Return logits [n, C] of `rows`, int64 [n]; NaN of those that are not known."""
        return self._logits[self._place[rows]]

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits [N, C] of a batch of samples that are known."""
        return self.of(batch.rows)


@dataclass
class Journal:
    """Numbers that a method asked for between phases, in order, so that its run can be replayed.

    While `replaying`, the run is on its way back to a checkpoint: nothing is trained or kept.
    """

    answers: list[float] = field(default_factory=list)
    replaying: bool = False
    _asked: int = 0

    def answer(self, compute: Callable[[], float]) -> float:
        """Return the next number: the one on record, or a new one."""
        if self._asked == len(self.answers):
            self.answers.append(compute())
        self._asked += 1
        return self.answers[self._asked - 1]


@dataclass
class Problem:
    """What a method may use. `model` starts as a copy of `original` and is changed in place."""

    model: nn.Module
    original: nn.Module  # frozen, in eval mode
    forget: SampleSet
    retain: SampleSet
    rest: SampleSet  # other training samples: of the original and the gold standard alone
    unseen: SampleSet
    calibration: SampleSet  # how accurate the original is on images it never saw: often `unseen`
    num_classes: int
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
    kept: dict[str, Tensor] | None = None  # the weights of `keep_weights`
    known: LogitsCache | None = None  # of the original, where some are known already
    original_logits: LogitsCache = field(init=False)

    def __post_init__(self) -> None:
        self.original_logits = self.known or self._logits_of(self.original)

    def random_logits(self, split: SampleSet) -> LogitsCache:
        """Return the logits of a random network on a split; of one that is constant, unasked."""
        model = self.random_model()
        logits = self._logits_of(model)
        black = self.pixel_range[0].expand(1, *self.image_shape)
        constant = _constant_answer(model, black)
        if constant is None:
            logits.fill(split)
        else:
            logits.assume(constant)
        return logits

    def _logits_of(self, model: nn.Module) -> LogitsCache:
        return LogitsCache(model, self.num_rows, self.num_classes, self.workers)

    def uniform(self, batch: Batch, columns: int, *names: object) -> Tensor:
        """Draw uniform numbers [N, columns] keyed by (seed, *names, sample id)."""
        return seeds.uniform(batch.keys, columns, self.seed, *names)

    def accuracy(self, model: nn.Module, split: SampleSet) -> float:
        """Return the unrounded share of `split` that `model` classifies correctly in eval mode.

        The model's mode is restored. An empty split gives NaN.
        """

        def hits(batch: Batch) -> Tensor:
            answer = self.original_logits(batch) if model is self.original else model(batch.images)
            return answer.argmax(dim=1) == batch.labels

        if model is self.original:
            self.original_logits.fill(split)

        return self.journal.answer(lambda: self._mean(model, split, hits))

    def loss(self, model: nn.Module, split: SampleSet) -> float:
        """Return the mean cross-entropy of `model` over `split`, in eval mode, as `accuracy`."""

        def losses(batch: Batch) -> Tensor:
            return cross_entropy(model(batch.images), batch.labels)

        return self.journal.answer(lambda: self._mean(model, split, losses))

    def keep_weights(self) -> None:
        """Remember a copy of the model's weights and buffers, in place of an earlier one."""
        if not self.journal.replaying:
            self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}

    def recall_weights(self) -> None:
        """Give the model the weights that were kept last; without any it stays as it is."""
        if self.kept is not None:
            self.model.load_state_dict(self.kept)

    def _mean(self, model: nn.Module, split: SampleSet, values: Callable[[Batch], Tensor]) -> float:
        was_training = model.training
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for batch in split:
                total += values(batch).sum(dtype=torch.float64)
        model.train(was_training)
        return float(self.workers.sum(total)) / len(split) if len(split) else float("nan")


def _constant_answer(model: nn.Module, image: Tensor) -> Tensor | None:
    """Return the logits [C] of a network that answers every image alike, or None.

    Such are fresh Vision Transformers of torchvision, whose head starts with weights of 0: seen by
    the last linear layer, and by one image [1, 3, H, W].
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers or bool(layers[-1].weight.any()):
        return None
    with torch.no_grad():
        answer: Tensor = model(image)[0]
        bias = layers[-1].bias if layers[-1].bias is not None else torch.zeros_like(answer)
        return answer if torch.equal(answer, bias) else None


Step = TypeVar("Step")  # what one optimizer step sees: a batch, or a pair of batches


def leave_unchanged(model: nn.Module) -> None:
    """Edit no gradient."""


@dataclass(frozen=True)
class Phase(Generic[Step]):
    """One pass over `batches`: one optimizer step each.

    `loss(model, step)` returns this worker's share of the global mean (see `Batch.mean`).
    `notes` are figures worth keeping for this phase, such as LoTUS's temperature.
    """

    batches: Iterable[Step]
    loss: Callable[[nn.Module, Step], Tensor]
    optimizer: Optimizer
    edit_gradients: Callable[[nn.Module], None] = leave_unchanged
    notes: Mapping[str, float] = field(default_factory=dict)


# Hyper-parameters of any method that are a part of something.
SHARES = ("momentum", "retain_fraction", "retain_weight", "density")


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass of hyper-parameters with one function.

    `name` is used in jobs, `label` in reports; `version` rises when the mathematics change, so
    that rows of the old ones are not taken for rows of the new ones.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    version: ClassVar[int] = 1
    least_epochs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raise MethodError where a number is not finite, negative, or a share above 1."""
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            low = self.least_epochs if name == "epochs" else 0
            high = 1.0 if name in SHARES else math.inf
            if not (math.isfinite(value) and low <= value <= high):
                limits = f"{low} … {high:g}" if name in SHARES else f"at least {low}, and finite"
                what = f"{self.name}: {name} is {value}, and must be {limits}"
                raise MethodError(what, where=name)

    @abstractmethod
    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        """Yield the phases to train, in order."""
