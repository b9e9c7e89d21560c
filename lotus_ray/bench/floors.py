"""The floor of a method: the forward and backward passes that its definition needs.

The unit is U, one forward of one image. A backward to the weights counts as 2 U and a backward to
the image alone as 1 U, so training on an image is 3 U. The original's logits cost nothing here: a
group computes them once for all of its cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

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
UNITS = {TRAIN: 3, TO_IMAGE: 2, FORWARD: 1}  # U per image


@dataclass(frozen=True)
class Pass:
    """Batches that go through the network in the same way."""

    kind: str  # TRAIN, TO_IMAGE or FORWARD
    batches: tuple[int, ...]  # images of each batch

    @property
    def images(self) -> int:
        """Number of images that go forward."""
        return sum(self.batches)


@dataclass(frozen=True)
class Samples:
    """Sizes of a problem whose classes are equally large."""

    classes: int
    forget: int  # samples, over all classes
    retain: int  # samples, over all classes
    batch_size: int
    evaluation_rows: int  # rows of a batch of evaluation

    def part(self, fraction: float) -> int:
        """Return the number of samples in a fraction of the retain set."""
        return max(round(fraction * self.retain), 1)

    def train(self, count: int, kind: str = TRAIN) -> Pass:
        """Return a pass over `count` samples in ceil(count / batch_size) even batches."""
        steps = math.ceil(count / self.batch_size)
        return Pass(kind, tuple(count // steps + (step < count % steps) for step in range(steps)))

    def evaluate(self, count: int) -> Pass:
        """Return a pass without gradients over `count` samples, in batches of evaluation."""
        full, rest = divmod(count, self.evaluation_rows)
        return Pass(FORWARD, (self.evaluation_rows,) * full + (rest,) * bool(rest))


def needed(method: Method, samples: Samples) -> list[Pass]:
    """Return the passes that the definition of a method needs.

    Raises:
        KeyError: the passes of this method are not derived here.
    """
    return NEEDED[type(method)](method, samples)


def units(passes: Iterable[Pass]) -> int:
    """Return the cost of passes in U."""
    return sum(UNITS[each.kind] * each.images for each in passes)


def forwards(passes: Iterable[Pass]) -> int:
    """Return the number of images that go forward."""
    return sum(each.images for each in passes)


def _finetune(method: Finetune, samples: Samples) -> list[Pass]:
    return [samples.train(samples.retain)] * method.epochs


def _neggrad_plus(method: NegGradPlus, samples: Samples) -> list[Pass]:
    """Each batch of D_r has a batch of D_f beside it; D_f repeats."""
    retained = samples.train(samples.retain)
    beside = islice(cycle(samples.train(samples.forget).batches), len(retained.batches))
    return [retained, Pass(TRAIN, tuple(beside))] * method.epochs


def _relabel(method: Relabel, samples: Samples) -> list[Pass]:
    return [samples.train(samples.forget), samples.train(samples.retain)] * method.epochs


def _bad_teacher(method: BadTeacher, samples: Samples) -> list[Pass]:
    """The random network runs on D_f once: it is not one of torchvision's constant ones."""
    count = samples.forget + samples.part(method.retain_fraction)
    return [samples.evaluate(samples.forget), *[samples.train(count)] * method.epochs]


def _scrub(method: Scrub, samples: Samples) -> list[Pass]:
    max_passes = [samples.train(samples.forget)] * min(method.msteps, method.epochs)
    return max_passes + [samples.train(samples.retain)] * method.epochs


def _ssd(method: Ssd, samples: Samples) -> list[Pass]:
    """Gradients over D_f and over D_r, once: those over D are both."""
    return [samples.train(samples.forget), samples.train(samples.retain)]


def _unsir(method: Unsir, samples: Samples) -> list[Pass]:
    """Each epoch: f(x_f), the noise steps, training on noise and on retain rows, repair."""
    repaired = samples.classes * min(method.retain_per_class, samples.retain // samples.classes)
    noise = samples.train(samples.forget, TO_IMAGE)
    epoch = [
        samples.train(samples.forget, FORWARD),
        *[noise] * method.noise_steps,
        *[samples.train(samples.forget)] * 2,
        samples.train(repaired),
    ]
    return epoch * method.epochs


def _salun(method: Salun, samples: Samples) -> list[Pass]:
    return [samples.train(samples.forget), *needed(method.inner, samples)]


def _lotus(method: Lotus, samples: Samples) -> list[Pass]:
    """The student's accuracy on D_f before each epoch but the first, when it is the original."""
    count = samples.forget + samples.part(method.retain_fraction)
    accuracies = [samples.evaluate(samples.forget)] * (method.epochs - 1)
    return [samples.train(count)] * method.epochs + accuracies


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
