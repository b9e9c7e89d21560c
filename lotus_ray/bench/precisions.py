"""Compare how much bfloat16 changes metrics with how much another seed changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from lotus_ray.base.roles import ROLES, STORED
from lotus_ray.bench import unlearning
from lotus_ray.bench.generated import Sizes, build
from lotus_ray.bench.unlearning import evaluated
from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.summary import summarise
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.original import Original

SEEDS = (0, 1, 2)
METRICS = (
    "forget_accuracy",
    "retain_accuracy",
    "unseen_accuracy",
    "test_accuracy",
    "mia_accuracy",
    "rf_jsd",
)
# Images that a small Vision Transformer learns in a few epochs.
SIZES = replace(
    unlearning.SIZES, classes=10, forget=20, retain=180, unseen=50, test=50, batch_size=128
)


def compared(
    device: torch.device, sizes: Sizes = SIZES, epochs: int = 5, seeds: Sequence[int] = SEEDS
) -> dict[str, float]:
    """Train an original and run LoTUS, in fp32 and in bf16, with the same seeds.

    Args:
        device: that computes.
        sizes: of the problem.
        epochs: of training the original.
        seeds: of the runs.

    Returns:
        The largest difference between fp32 and bf16 over metrics and seeds, and the spread of the
        same metric over the seeds in fp32 (highest − lowest).
    """
    metrics = {
        precision: [_metrics(device, sizes, epochs, precision, seed) for seed in seeds]
        for precision in ("fp32", "bf16")
    }
    return largest_difference(metrics["fp32"], metrics["bf16"])


def largest_difference(
    exact: Sequence[Mapping[str, float]], coarse: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Return max |coarse − exact| over metrics and seeds, and that metric's spread in `exact`."""
    differences = {
        name: max(abs(b[name] - a[name]) for a, b in zip(exact, coarse, strict=True))
        for name in exact[0]
    }
    worst = max(differences, key=lambda name: differences[name])
    values = [row[worst] for row in exact]
    return {
        f"bf16 against fp32, largest difference, {worst}": differences[worst],
        f"spread over {len(exact)} seeds, {worst}": max(values) - min(values),
    }


def _metrics(
    device: torch.device, sizes: Sizes, epochs: int, precision: str, seed: int
) -> dict[str, float]:
    """Train an original, run LoTUS, and return the metrics of the unlearned model."""
    stage = build(sizes, device, precision=precision, seed=seed)
    with ForwardCounter().counting() as forwards:
        problem = stage.problem(forwards)
        unlearn(Original(epochs=epochs, lr=1e-3, optimizer="adamw", batch_size=128), problem)
        stage.original.load_state_dict(problem.model.state_dict())
        original = evaluated(stage.compute_logits())
        problem = stage.problem(forwards)
        unlearn(Lotus(epochs=3), problem)
    outputs = evaluate(
        problem.model,
        {role: stage.dataset.split(role) for role in ROLES},
        roles=np.array(STORED)[stage.dataset.roles.roles],
        labels=stage.dataset.roles.labels,
        num_classes=sizes.classes,
        device=device,
        workers=stage.dataset.workers,
    )
    metrics = summarise(outputs, original).values
    return {name: float(metrics[name] or 0.0) for name in METRICS}
