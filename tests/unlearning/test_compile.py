"""A compiled network trains as a plain one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# In a process of its own: torch's compiler warns of itself, and here warnings are errors.
SAME_TRAINING = """
import torch
from lotus_ray.unlearning import compile as compiling
from lotus_ray.unlearning.forward_counter import STUDENT, ForwardCounter
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.finetune import Finetune
from tests.toy import Linear, blobs, make_problem, make_roles, make_dataset

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
    problem = make_problem(Linear(12, 2), make_dataset(blobs(12, 2), roles), batch_size=3)
    problem.workers = change(problem.workers)
    with ForwardCounter().counting() as forwards:
        forwards.watch(problem.model, STUDENT)
        records = unlearn(Finetune(epochs=2, lr=0.1), problem)
        found.append(([r.losses for r in records], problem.model.head.weight.tolist(),
                      forwards.images[STUDENT], Graphs.seen > 0))
(losses, weights, images, no), (again, same, counted, yes) = found
assert losses == again and weights == same, (losses, again)
assert images == counted == 16
assert yes and not no
"""


def test_a_compiled_replica_trains_likewise_and_is_counted() -> None:
    """8 images twice; the graphs are seen by a backend that runs them as they are."""
    ended = subprocess.run(
        [sys.executable, "-c", SAME_TRAINING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
