"""SalUn's mask beside the two sorts of the published code: seconds and memory.

Each measurement runs in its own process, so it has its own memory peak:
`python -m lotus_ray.bench.mask ours|sorts BLOCKS WIDTH`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lotus_ray.bench.scoreboard import Measurements, Score
from lotus_ray.bench.timing import medians_without_warm_up, seconds_of
from lotus_ray.unlearning.methods.selection import largest

DENSITY = 0.1
LEAST_SPEED_UP, MOST_MEMORY = 15.0, 0.25  # ratios to the sorts
BLOCKS, WIDTH, PATCH, TOKENS, CLASSES = 12, 768, 16, 197, 1000  # ViT-B/16: 86.6 M weights
Select = Callable[[Sequence[Tensor], int], list[Tensor]]


def sorted_twice(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """Select the `count` largest entries as the published code does: by ranks, from two sorts.

    Args:
        values: tensors of any shapes.
        count: number of entries to select, over all tensors.

    Returns:
        A bool mask for each tensor, of its shape.

    Source: Fan et al. 2024, the description of their code. Deviation: the mask is bool, theirs is
        int64. That makes this baseline faster.
    """
    falling = -torch.cat([value.flatten() for value in values])
    ranks = torch.argsort(torch.argsort(falling))
    parts = torch.split(ranks, [value.numel() for value in values])
    return [part.reshape(value.shape) < count for part, value in zip(parts, values, strict=True)]


WAYS: dict[str, Select] = {"ours": largest, "sorts": sorted_twice}


def vit_shapes(blocks: int = BLOCKS, width: int = WIDTH) -> list[tuple[int, ...]]:
    """Return the shapes of the parameters of a Vision Transformer.

    Args:
        blocks: number of transformer blocks.
        width: size of the embedding.
    """
    matrices = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    block: list[tuple[int, ...]] = [*matrices, *((rows,) for rows, _ in matrices)]
    ends = [(width, 3, PATCH, PATCH), (1, TOKENS, width), (1, 1, width), (CLASSES, width)]
    return [*[*block, *[(width,)] * 4] * blocks, *ends, (width,), (width,), (width,), (CLASSES,)]


def measure(repeats: int, blocks: int = BLOCKS, width: int = WIDTH) -> Measurements:
    """Measure SalUn's mask and two sorts in turn, on the weights of a Vision Transformer.

    Args:
        repeats: of each measurement.
        blocks: number of transformer blocks.
        width: size of the embedding.
    """
    last: dict[str, dict[str, float]] = {}

    def seconds(way: str) -> float:
        last[way] = _in_a_process(way, blocks, width)
        return last[way]["seconds"]

    taken = medians_without_warm_up(
        repeats, ours=lambda: seconds("ours"), sorts=lambda: seconds("sorts")
    )
    ours, sorts = last["ours"]["extra_bytes"], last["sorts"]["extra_bytes"]
    scores = {
        "two_sorts_time_vs_salun_mask": Score(
            "C9.time",
            "seconds of two argsorts ÷ SalUn's mask",
            taken["sorts"] / taken["ours"],
            LEAST_SPEED_UP,
            True,
            repeats,
        ),
        "salun_mask_memory_vs_two_sorts": Score(
            "C9.memory",
            "peak memory beyond the saliencies, SalUn's mask ÷ two argsorts",
            ours / sorts,
            MOST_MEMORY,
            False,
            1,
        ),
    }
    rates = {"SalUn's mask, s": taken["ours"], "two argsorts, s": taken["sorts"]}
    mib = {"SalUn's mask, MiB": ours / 2**20, "two argsorts, MiB": sorts / 2**20}
    return Measurements(scores, rates | mib)


def _in_a_process(way: str, blocks: int, width: int) -> dict[str, float]:
    command = [sys.executable, "-m", "lotus_ray.bench.mask", way, str(blocks), str(width)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {ended.stderr[-500:]}")
    result: dict[str, float] = json.loads(ended.stdout)
    return result


def run(way: str, blocks: int, width: int) -> dict[str, Any]:
    """Make saliencies and mask them in this process; return `seconds` and `extra_bytes`.

    The extra memory is the largest resident size that the process ever had, minus its size before
    the mask. Saliencies are drawn in place, so the size was never larger before the mask. A first
    mask of a few weights starts the threads and loads the code.

    Args:
        way: a name in WAYS.
        blocks: number of transformer blocks.
        width: size of the embedding.
    """
    generator = torch.Generator().manual_seed(0)
    values = [torch.empty(shape).normal_(generator=generator).abs_() for shape in
              vit_shapes(blocks, width)]  # fmt: skip
    count = round(DENSITY * sum(value.numel() for value in values))
    WAYS[way]([torch.rand(100_000)], 1000)
    before = _resident_bytes()
    masks: list[Tensor] = []
    taken = seconds_of(lambda: masks.extend(WAYS[way](values, count)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    assert sum(int(mask.sum()) for mask in masks) == count
    return {"seconds": taken, "extra_bytes": max(peak - before, 1)}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
