"""What each method does to the weights of a small network, written out a second time.

A formula shares the order of samples and the random numbers with the method that it is compared
with, and nothing else: no loss, optimizer or engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lotus_ray.bench.formulas.adversarial import amun
from lotus_ray.bench.formulas.bargains import fcs, munba, sfron
from lotus_ray.bench.formulas.convolutions import cf_k, ct, eu_k, msg
from lotus_ray.bench.formulas.edits import certified_noise, ssd
from lotus_ray.bench.formulas.images import boundary_shrink, jit, unsir
from lotus_ray.bench.formulas.labels import finetune, l1_sparse, neggrad_plus, relabel, salun
from lotus_ray.bench.formulas.stages import convolutional_stage, linear_stage
from lotus_ray.bench.formulas.teachers import bad_teacher, delete, lotus, scrub
from lotus_ray.bench.generated import Stage
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

# By name: from a method's settings and a problem to the weights, in the order of the network's.
FORMULAS: dict[str, Callable[[Any, Problem], list[Tensor]]] = {
    "finetune": finetune,
    "neggrad_plus": neggrad_plus,
    "relabel": relabel,
    "bad_teacher": bad_teacher,
    "scrub": scrub,
    "ssd": ssd,
    "unsir": unsir,
    "salun": salun,
    "lotus": lotus,
    "l1_sparse": l1_sparse,
    "msg": msg,
    "ct": ct,
    "fcs": fcs,
    "delete": delete,
    "boundary_shrink": boundary_shrink,
    "sfron": sfron,
    "munba": munba,
    "jit": jit,
    "amun": amun,
    "certified_noise": certified_noise,
    "cf_k": cf_k,
    "eu_k": eu_k,
}
CONVOLUTIONAL = {"msg", "ct", "cf_k", "eu_k"}  # need a convolution, or more than one block
SETTINGS: dict[str, dict[str, Any]] = {  # by which each setting of a method shows in its weights
    "lotus": {"class_unlearning": False},
    "ssd": {"alpha": 2.0},  # a third is forgotten: from 3 on, nothing is selected
    "fcs": {"contrast_batch_size": 16},
    "unsir": {"retain_per_class": 8},
    "boundary_shrink": {"epsilon": 0.2},
    "amun": {"attack_steps": 10, "radius": 0.04},
    "certified_noise": {"gradient_clip": 0.5, "noise_steps": 3, "renyi": 10.0},
}
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {  # settings that name another formula
    "lotus": ({"variant": "softmax"},),
    "ssd": ({"importance": "sample"},),
    "scrub": ({"lr_decay": (1,)}, {"max_weight_decay": 0.01}),
    "msg": ({"linear": True},),
    "sfron": ({"optimizer": "adamw"},),
    "cf_k": ({"k": 2},),
    "eu_k": ({"k": 2},),
}


def agreement(method: Method) -> float | None:
    """Compare the weights that a method makes with those of its formula, in float64.

    Args:
        method: with its settings; `SETTINGS` replace some, and each of `VARIANTS` some more.

    Returns:
        max |θ − θ_formula| / max |θ_formula| over all weights, the largest of all variants; NaN if
        one is; None without a formula.
    """
    if method.name not in FORMULAS:
        return None
    method = replace(method, **SETTINGS.get(method.name, {}))
    variants = [replace(method, **changed) for changed in ({}, *VARIANTS.get(method.name, ()))]
    apart = [distance(expected(variant), trained(variant)) for variant in variants]
    return max(apart, key=lambda value: (math.isnan(value), value))


def expected(method: Method) -> list[Tensor]:
    """Return the weights of a method's formula on its stage."""
    return FORMULAS[method.name](method, _problem(method))


def trained(method: Method) -> list[Tensor]:
    """Return the weights that a method makes on its stage."""
    problem = _problem(method)
    unlearn(method, problem)
    return [value.detach() for value in problem.model.parameters()]


def distance(expected: list[Tensor], weights: list[Tensor]) -> float:
    """Return max |θ − θ_expected| / max |θ_expected| over all weights."""
    largest = max(float(value.abs().max()) for value in expected)
    apart = [(a - b).abs().max() for a, b in zip(expected, weights, strict=True)]
    return max(map(float, apart)) / largest


def stage_of(name: str) -> Stage:
    """Return the stage of a method, by name."""
    return convolutional_stage() if name in CONVOLUTIONAL else linear_stage()


def _problem(method: Method) -> Problem:
    return stage_of(method.name).problem(ForwardCounter())
