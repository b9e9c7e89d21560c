"""The floors of SFRon, MUNBa, JiT, AMUN, certified noise, CF-k and EU-k: see `floors`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

from lotus_ray.job.passes import FORWARD, TO_IMAGE, TRAIN, TRAIN_LAST, Pass, Samples
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.amun import Amun
from lotus_ray.unlearning.methods.certified_noise import CertifiedNoise
from lotus_ray.unlearning.methods.cf_k import CfK
from lotus_ray.unlearning.methods.eu_k import EuK
from lotus_ray.unlearning.methods.jit import Jit
from lotus_ray.unlearning.methods.munba import Munba
from lotus_ray.unlearning.methods.sfron import Sfron


def _sfron(method: Sfron, samples: Samples) -> list[Pass]:
    """Fisher over D_f and D_r, the repair steps, and the ascent steps in between."""
    forget, retain = samples.train(samples.forget), samples.train(samples.retain)
    repairs: list[int] = []
    ascents: list[int] = []
    for start in range(0, method.steps, len(retain.batches)):
        steps = range(start, min(start + len(retain.batches), method.steps))
        repairs += retain.batches[: len(steps)]
        count = sum(step % method.ascend_every == 0 for step in steps)
        ascents += islice(cycle(forget.batches), count)
    return [forget, retain, Pass(TRAIN, tuple(repairs)), Pass(TRAIN, tuple(ascents))]


def _munba(method: Munba, samples: Samples) -> list[Pass]:
    """A pass over D_r, and one over D_f beside its first batches."""
    retained, forgotten = samples.train(samples.retain), samples.train(samples.forget)
    beside = forgotten.batches[: len(retained.batches)]
    return [retained, Pass(TRAIN, beside)] * method.epochs


def _jit(method: Jit, samples: Samples) -> list[Pass]:
    """Each batch is trained on, and its noisy copies go forward."""
    copies = [samples.train(samples.forget, FORWARD)] * method.copies
    return [samples.train(samples.forget), *copies] * method.passes


def _amun(method: Amun, samples: Samples) -> list[Pass]:
    """D_f counts twice: as it is, and as adversarial examples.

    An original that guesses, as the benchmark's, gets one image of D_f in `classes` right, and
    needs at least one step of the attack, and a look at its end, for each of these.
    """
    attacked = samples.forget // samples.classes
    attack = [samples.train(attacked, kind) for kind in (TO_IMAGE, FORWARD) if attacked]
    return attack + [samples.train(2 * samples.forget + samples.retain)] * method.epochs


def _certified_noise(method: CertifiedNoise, samples: Samples) -> list[Pass]:
    """The noisy steps and fine-tuning, both over D_r."""
    retain = samples.train(samples.retain)
    noisy = tuple(islice(cycle(retain.batches), method.steps))
    return [Pass(TRAIN, noisy), *[retain] * method.epochs]


def _last_blocks(method: CfK | EuK, samples: Samples) -> list[Pass]:
    """D_r goes forward; the backward ends before the frozen blocks."""
    batches = samples.train(samples.retain).batches
    return [Pass(TRAIN_LAST, batches, last=method.k)] * method.epochs


MORE: dict[type[Method], Callable[[Any, Samples], list[Pass]]] = {
    Sfron: _sfron,
    Munba: _munba,
    Jit: _jit,
    Amun: _amun,
    CertifiedNoise: _certified_noise,
    CfK: _last_blocks,
    EuK: _last_blocks,
}
