"""Formulas of the methods that edit weights by hand."""

from __future__ import annotations

from typing import Any

import torch

from lotus_ray.bench.formulas.linear import Weights, label_gradient, start
from lotus_ray.unlearning.contract import SampleSet
from lotus_ray.unlearning.problem import Problem


def squares(weights: Weights, problem: Problem, samples: SampleSet, *names: object) -> Weights:
    """Return the squared gradient of each batch, [batches, …] for each weight."""
    gradients = [
        label_gradient(weights, batch) for batch in samples.shuffled(problem.batch_size, *names)
    ]
    return [torch.stack(each) ** 2 for each in zip(*gradients, strict=True)]


def ssd(method: Any, problem: Problem) -> Weights:
    """Scale by λ·I_D/I_f, at most 1, where I_f > α·I_D; batches of D are of D_f or of D_r alone."""
    weights = start(problem)
    forget, retain = (
        squares(weights, problem, samples, "ssd") for samples in (problem.forget, problem.retain)
    )
    for value, f, r in zip(weights, forget, retain, strict=True):
        of_forget, of_all = f.mean(dim=0), torch.cat([f, r]).mean(dim=0)
        chosen = of_forget > method.alpha * of_all
        factor = method.dampening * of_all[chosen] / of_forget[chosen]
        value[chosen] = value[chosen] * factor.clamp(max=1)
    return weights
