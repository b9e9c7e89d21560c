"""A GPU at the size of the paper's largest benchmark, on generated images.

Needs torch, timm and scikit-learn; neither Ray nor pydantic: `python -m lotus_ray.bench.gpu`.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from lotus_ray.bench.generated import Stage, build
from lotus_ray.bench.gpu_work import (
    HEADLINE,
    Scale,
    evaluate_all,
    run_lotus,
    synchronised_seconds,
    train_from_cache,
    train_on_one_batch,
)
from lotus_ray.bench.peak import utilisation
from lotus_ray.bench.precisions import compared
from lotus_ray.bench.scoreboard import Measurements, Score, old_keys_note, to_json, to_table
from lotus_ray.bench.timing import medians, seconds_of

LEAST_CACHE_RATE = 0.98
MOST_EVALUATION_SECONDS, MOST_LOTUS_SECONDS = 12.0, 20.0
NO_GPU = "needs a CUDA GPU, and this machine has none"


def measure(repeats: int, device: torch.device, scale: Scale = HEADLINE) -> Measurements:
    """Measure training, evaluation and LoTUS on a GPU, and bfloat16 beside float32.

    Args:
        repeats: of each measurement, after one to warm up.
        device: the GPU.
        scale: how much work; the default is the paper's ImageNet benchmark with ViT-B/16.
    """
    stage = build(scale.sizes, device, precision="bf16").compute_logits()
    seconds = _seconds(stage, device, scale, repeats)
    images = scale.steps * scale.sizes.batch_size
    flops = 3 * scale.forward_flop * images / seconds["resident"]
    measured = utilisation(flops, device, repeats)
    measured.scores |= _scores(seconds, scale, repeats)
    measured.rates = {
        "training, images/s": images / seconds["resident"],
        "training, TFLOP/s": flops / 1e12,
        **compared(device),
    }
    measured.notes.append("the line `cells used` of `grid` says how well a grid uses a GPU")
    return measured


def _seconds(stage: Stage, device: torch.device, scale: Scale, repeats: int) -> dict[str, float]:
    return medians(
        repeats,
        resident=lambda: seconds_of(lambda: train_on_one_batch(stage, scale.steps)),
        cached=lambda: seconds_of(lambda: train_from_cache(stage, scale.steps)),
        evaluation=lambda: synchronised_seconds(device, lambda: evaluate_all(stage)),
        lotus=lambda: synchronised_seconds(device, lambda: run_lotus(stage, scale.epochs)),
    )


def _scores(seconds: dict[str, float], scale: Scale, repeats: int) -> dict[str, Score]:
    """Turn measured seconds into scores, by name."""
    return {
        "cache_rate_vs_resident_images": Score(
            "G2",
            "images/s of training from the cache of decoded images ÷ from images on the GPU",
            seconds["resident"] / seconds["cached"],
            LEAST_CACHE_RATE,
            True,
            repeats,
        ),
        "evaluation_seconds": Score(
            "G3",
            f"seconds of evaluating {scale.sizes.samples} images with all metrics",
            seconds["evaluation"],
            MOST_EVALUATION_SECONDS,
            False,
            repeats,
        ),
        "lotus_seconds": Score(
            "G4",
            f"seconds of LoTUS, {scale.epochs} epochs",
            seconds["lotus"],
            MOST_LOTUS_SECONDS,
            False,
            repeats,
        ),
    }


def main(arguments: list[str]) -> int:
    """Measure and print; return 2 if there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m lotus_ray.bench.gpu", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"error: this benchmark {NO_GPU}", file=sys.stderr)
        return 2
    measured = measure(options.repeats, torch.device("cuda"))
    if options.json:
        print(old_keys_note(measured), file=sys.stderr)
    print(json.dumps(to_json(measured), indent=1) if options.json else to_table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
