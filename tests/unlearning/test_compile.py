"""Compiling where it pays: the rule by hand, and the same training but for rounding."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lotus_ray.unlearning.compile import Compiling, pays
from lotus_ray.unlearning.problem import Workers

ROOT = Path(__file__).parents[2]
# In a process of its own: torch's compiler warns of itself, and here warnings are errors.
SAME_TRAINING = """
import torch
from lotus_ray.unlearning import compile as compiling
from lotus_ray.unlearning.forward_counter import STUDENT, Forwards
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.finetune import Finetune
from tests.toy import Linear, blobs, make_problem, make_roles, make_warm

class Graphs:
    seen = 0
    def __call__(self, graph, inputs):
        Graphs.seen += 1
        return graph.forward

plain_compile = torch.compile
torch.compile = lambda model: plain_compile(model, backend=Graphs())  # without a C compiler
roles = make_roles("f" * 4 + "r" * 8, [row % 2 for row in range(12)], 2)
found = []
for change in (lambda workers: workers, compiling.compiling):
    problem = make_problem(Linear(12, 2), make_warm(blobs(12, 2), roles), batch_size=3)
    problem.workers = change(problem.workers)
    with Forwards().counting() as forwards:
        forwards.watch(problem.model, STUDENT)
        records = unlearn(Finetune(epochs=2, lr=0.1), problem)
        found.append(([r.losses for r in records], problem.model.head.weight.tolist(),
                      forwards.images[STUDENT], Graphs.seen > 0))
(losses, weights, images, no), (again, same, counted, yes) = found
assert losses == again and weights == same, (losses, again)
assert images == counted == 16
assert yes and not no
"""


@pytest.mark.parametrize(
    ("seconds_an_image", "images_left", "expected"),
    [(0.001, 600_001, True), (0.001, 599_999, False), (0.0, 1e12, False), (1.0, 0, False)],
)
def test_compiling_pays_where_a_fifth_of_what_is_left_exceeds_two_minutes(
    seconds_an_image: float, images_left: float, expected: bool
) -> None:
    """0.2 · 0.001 s · 600,000 images = 120 s."""
    assert pays(seconds_an_image, images_left) is expected


def test_a_compiled_replica_trains_likewise_and_is_counted() -> None:
    """8 images twice; the graphs are seen by a backend that runs them as they are."""
    ended = subprocess.run(
        [sys.executable, "-c", SAME_TRAINING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_a_lane_compiles_from_where_it_pays_and_then_stays_so() -> None:
    """A second for an image: 600 more repay it, 599 do not; two workers share what is left."""
    cpu, alone = torch.device("cpu"), Workers()
    lane = Compiling(wanted=True)
    assert lane.workers(alone, 10**9, cpu) is alone  # nobody knows yet how long an image takes
    lane.learn(30.0, 30)
    assert lane.workers(alone, 600, cpu) is alone
    assert lane.workers(replace(alone, size=2), 1200, cpu).replicate is alone.replicate
    assert not lane.on
    assert lane.workers(alone, 601, cpu).replicate is not alone.replicate
    lane.learn(1.0, 1000)
    assert lane.workers(alone, 1, cpu).replicate is not alone.replicate
    unasked = Compiling()
    unasked.learn(30.0, 30)
    assert unasked.workers(alone, 10**9, cpu) is alone


def test_another_worker_does_as_the_first_one_finds() -> None:
    says_yes = Workers(rank=1, size=2, sum=lambda share: share + 1)
    assert Compiling(wanted=True).workers(says_yes, 0, torch.device("cpu")) is not says_yes
