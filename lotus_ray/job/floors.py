"""The floor of a method: the forward and backward passes that its definition needs.

The original's logits cost nothing here: a group computes them once for all of its cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

from lotus_ray.job.more_floors import MORE
from lotus_ray.job.passes import FORWARD, TO_IMAGE, TRAIN, Pass, Samples
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.bad_teacher import BadTeacher
from lotus_ray.unlearning.methods.boundary_shrink import BoundaryShrink
from lotus_ray.unlearning.methods.ct import Ct
from lotus_ray.unlearning.methods.delete import Delete
from lotus_ray.unlearning.methods.fcs import Fcs
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.gold import Gold
from lotus_ray.unlearning.methods.l1_sparse import L1Sparse
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.msg import Msg
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.methods.relabel import Relabel
from lotus_ray.unlearning.methods.salun import Salun
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.methods.ssd import Ssd
from lotus_ray.unlearning.methods.unsir import Unsir


def needed(method: Method, samples: Samples) -> list[Pass]:
    """Return the passes that the definition of a method needs.

    Of a plug-in they are those of the built-in method that it is made from; else, as a guess, each
    epoch trains on forget and retain set.
    """
    known = (NEEDED[kind] for kind in type(method).__mro__ if kind in NEEDED)
    return next(known, _guess)(method, samples)


def _guess(method: Method, samples: Samples) -> list[Pass]:
    epochs = max(int(getattr(method, "epochs", 1)), 1)
    return [samples.train(samples.forget), samples.train(samples.retain)] * epochs


def _original(method: Original, samples: Samples) -> list[Pass]:
    """All epochs. Looks at unseen images, for `patience`, are left out."""
    count = samples.forget + samples.retain + samples.other_train
    return [replace(samples, batch_size=method.batch_size).train(count)] * method.epochs


def _gold(method: Gold, samples: Samples) -> list[Pass]:
    count = samples.retain + samples.other_train
    return [replace(samples, batch_size=method.batch_size).train(count)] * method.epochs


def _finetune(method: Finetune | L1Sparse | Ct, samples: Samples) -> list[Pass]:
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


def _msg(method: Msg, samples: Samples) -> list[Pass]:
    """Gradients over D_f and over as many retain rows, once."""
    gradients = [samples.train(samples.forget)] * 2
    return gradients + [samples.train(samples.retain)] * method.epochs


def _fcs(method: Fcs, samples: Samples) -> list[Pass]:
    """Each forget batch is compared with a batch of D_r, which repeats and gets no gradient."""
    forgotten = samples.train(samples.forget)
    partners = replace(samples, batch_size=method.contrast_batch_size).train(samples.retain)
    beside = Pass(FORWARD, tuple(islice(cycle(partners.batches), len(forgotten.batches))))
    return [forgotten] + [forgotten, beside, samples.train(samples.retain)] * method.epochs


def _delete(method: Delete, samples: Samples) -> list[Pass]:
    return [samples.train(samples.forget)] * method.epochs


def _boundary_shrink(method: BoundaryShrink, samples: Samples) -> list[Pass]:
    """The attack once: a gradient to the images, and the answer to what it gives."""
    attack = [samples.train(samples.forget, kind) for kind in (TO_IMAGE, FORWARD)]
    return attack + [samples.train(samples.forget)] * method.epochs


NEEDED: dict[type[Method], Callable[[Any, Samples], list[Pass]]] = {
    Original: _original,
    Gold: _gold,
    Finetune: _finetune,
    NegGradPlus: _neggrad_plus,
    Relabel: _relabel,
    BadTeacher: _bad_teacher,
    Scrub: _scrub,
    Ssd: _ssd,
    Unsir: _unsir,
    Salun: _salun,
    Lotus: _lotus,
    L1Sparse: _finetune,
    Msg: _msg,
    Ct: _finetune,
    Fcs: _fcs,
    Delete: _delete,
    BoundaryShrink: _boundary_shrink,
    **MORE,
}
