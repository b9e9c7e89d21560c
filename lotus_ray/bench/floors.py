"""What a method cannot do without: forwards and backwards of the bare network, by its definition.

1 U is a forward of one image. A backward to the weights is taken for 2 U and one to the image
alone for 1 U, so that training on an image is 3 U. What the original answers is known: a group
computes it once for all of its cells, and keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.bad_teacher import BadTeacher
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus
from lotus_ray.unlearning.methods.relabel import Relabel
from lotus_ray.unlearning.methods.salun import Salun
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.methods.ssd import Ssd
from lotus_ray.unlearning.methods.unsir import Unsir

TRAIN, TO_IMAGE, FORWARD = "train", "to image", "forward"
UNITS = {TRAIN: 3, TO_IMAGE: 2, FORWARD: 1}


@dataclass(frozen=True)
class Pass:
    """Some batches through the network, each of so many images, all with the same kind of pass."""

    kind: str
    batches: tuple[int, ...]

    @property
    def images(self) -> int:
        """Return how many images go forward."""
        return sum(self.batches)


@dataclass(frozen=True)
class Samples:
    """How many there are: in all of the forget and the retain set, classes alike."""

    classes: int
    forget: int
    retain: int
    batch_size: int
    evaluation_rows: int

    def part(self, fraction: float) -> int:
        """Return how many a fraction of the retain set is, drawn class by class."""
        return self.classes * round(fraction * self.retain / self.classes)

    def train(self, count: int, kind: str = TRAIN) -> Pass:
        """Return a pass over so many in ceil(count / batch size) batches as even as can be."""
        steps = math.ceil(count / self.batch_size)
        return Pass(kind, tuple(count // steps + (step < count % steps) for step in range(steps)))

    def look(self, count: int) -> Pass:
        """Return a pass without gradients in batches of evaluation."""
        full, rest = divmod(count, self.evaluation_rows)
        return Pass(FORWARD, (self.evaluation_rows,) * full + (rest,) * bool(rest))


def needed(method: Method, samples: Samples) -> list[Pass]:
    """Return the passes that a method's definition asks for.

    Raises:
        KeyError: nobody has derived them for this method.
    """
    return NEEDED[type(method)](method, samples)


def units(passes: Iterable[Pass]) -> int:
    """Return the cost in U."""
    return sum(UNITS[each.kind] * each.images for each in passes)


def forwards(passes: Iterable[Pass]) -> int:
    """Return how many images go forward."""
    return sum(each.images for each in passes)


def _finetune(method: Finetune, samples: Samples) -> list[Pass]:
    return [samples.train(samples.retain)] * method.epochs


def _neggrad_plus(method: NegGradPlus, samples: Samples) -> list[Pass]:
    """D_f is cycled along D_r: each batch of D_r has one of D_f beside it."""
    retained = samples.train(samples.retain)
    beside = islice(cycle(samples.train(samples.forget).batches), len(retained.batches))
    return [retained, Pass(TRAIN, tuple(beside))] * method.epochs


def _relabel(method: Relabel, samples: Samples) -> list[Pass]:
    return [samples.train(samples.forget), samples.train(samples.retain)] * method.epochs


def _bad_teacher(method: BadTeacher, samples: Samples) -> list[Pass]:
    """The random network answers D_f once: this one is not constant, as torchvision's would be."""
    count = samples.forget + samples.part(method.retain_fraction)
    return [samples.look(samples.forget), *[samples.train(count)] * method.epochs]


def _scrub(method: Scrub, samples: Samples) -> list[Pass]:
    highest = [samples.train(samples.forget)] * min(method.msteps, method.epochs)
    return highest + [samples.train(samples.retain)] * method.epochs


def _ssd(method: Ssd, samples: Samples) -> list[Pass]:
    """Gradients over D and over D_f, once. The batches of D are no sums of batches of D_f."""
    return [samples.train(samples.forget + samples.retain), samples.train(samples.forget)]


def _unsir(method: Unsir, samples: Samples) -> list[Pass]:
    """An epoch: f(x_f) once, the steps of the noise, training on noise and partners, repair."""
    kept = samples.classes * min(method.retain_per_class, samples.retain // samples.classes)
    noise = samples.train(samples.forget, TO_IMAGE)
    epoch = [
        samples.train(samples.forget, FORWARD),
        *[noise] * method.noise_steps,
        *[samples.train(samples.forget)] * 2,
        samples.train(kept),
    ]
    return epoch * method.epochs


def _salun(method: Salun, samples: Samples) -> list[Pass]:
    return [samples.train(samples.forget), *needed(method.inner, samples)]


def _lotus(method: Lotus, samples: Samples) -> list[Pass]:
    """The student's accuracy on D_f at each epoch's start: at the first, it is the original."""
    count = samples.forget + samples.part(method.retain_fraction)
    looks = [samples.look(samples.forget)] * (method.epochs - 1)
    return [samples.train(count)] * method.epochs + looks


NEEDED: dict[type[Method], Callable[[Any, Samples], list[Pass]]] = {
    Finetune: _finetune,
    NegGradPlus: _neggrad_plus,
    Relabel: _relabel,
    BadTeacher: _bad_teacher,
    Scrub: _scrub,
    Ssd: _ssd,
    Unsir: _unsir,
    Salun: _salun,
    Lotus: _lotus,
}


@dataclass
class Bare:
    """The floor itself: a network, and images that are in memory as it takes them.

    `images` [n, 3, H, W], normalised, and `labels` [n] are walked over again and again.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    _place: int = 0

    def run(self, passes: Iterable[Pass]) -> None:
        """Do nothing but the passes; on a GPU, wait until they are done."""
        work = {TRAIN: self._train, TO_IMAGE: self._to_image, FORWARD: self._forward}
        for each in passes:
            self.model.train(each.kind == TRAIN)
            for count in each.batches:
                work[each.kind](*self._next(count))
        if self.images.is_cuda:
            torch.cuda.synchronize(self.images.device)

    def _next(self, count: int) -> tuple[Tensor, Tensor]:
        if self._place + count > len(self.images):
            self._place = 0
        part = slice(self._place, self._place + count)
        self._place += count
        return self.images[part], self.labels[part]

    def _train(self, images: Tensor, labels: Tensor) -> None:
        self.model.zero_grad(set_to_none=True)
        functional.cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]

    def _to_image(self, images: Tensor, labels: Tensor) -> None:
        given = images.detach().requires_grad_()
        torch.autograd.grad(functional.cross_entropy(self.model(given), labels), given)

    def _forward(self, images: Tensor, labels: Tensor) -> None:
        with torch.inference_mode():
            self.model(images)
