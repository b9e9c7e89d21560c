from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from lotus_ray.base.errors import Diverged
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.bad_teacher import BadTeacher
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.methods.relabel import Relabel
from lotus_ray.unlearning.methods.salun import Salun
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.methods.unsir import Unsir
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles

ROLES = make_roles("f" * 4 + "r" * 8 + "u" * 2 + "t" * 2, [i % 2 for i in range(16)], 2)


def _loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return batch.mean(cross_entropy(model(batch.images), batch.labels))


@dataclass(frozen=True)
class Masked(Method):
    """Train with every gradient set to zero."""

    name: ClassVar[str] = "masked"
    label: ClassVar[str] = "Masked"

    def phases(self, problem: Problem) -> Iterator[Phase]:
        def erase(model: nn.Module) -> None:
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.zero_()

        yield Phase(
            batches=problem.retain.shuffled(4, "masked"),
            loss=_loss,
            optimizer=torch.optim.SGD(problem.model.parameters(), lr=1.0),
            edit_gradients=erase,
            notes={"density": 0.0},
        )


def test_a_run_says_where_it_is_after_each_step() -> None:
    """8 retained images in batches of 4: two steps of one phase; the loss is that of the record."""
    problem, seen = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), ROLES)), []
    move = problem.position.move
    problem.position.move = lambda *at: (move(*at), seen.append(at))  # type: ignore[method-assign]
    (record,) = unlearn(Masked(), problem)
    assert [(phase, steps) for phase, steps, _ in seen] == [(1, 0), (1, 1), (1, 2)]
    assert [float(share) for _, _, share in seen[1:]] == record.losses
    assert (problem.position.phase, problem.position.steps) == (1, 2)


def test_gradients_are_edited_between_backward_and_step() -> None:
    problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), ROLES))
    records = unlearn(Masked(), problem)
    assert torch.equal(problem.model.head.weight, problem.original.head.weight)
    assert len(records[0].losses) == 2
    assert records[0].notes == {"density": 0.0}


def test_divergence_names_phase_and_step() -> None:
    """lr 1e200 sends the weights to ±1e200 in epoch 0; the loss of epoch 1 is infinite or NaN."""
    problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), ROLES), batch_size=100)
    with pytest.raises(Diverged, match=r"loss became (inf|nan) at step 0 of phase [12]"):
        unlearn(Finetune(epochs=4, lr=1e200), problem)


def test_clock_adds_up_by_name() -> None:
    clock = Clock(torch.device("cpu"))
    for _ in range(2):
        with clock.measure("a"):
            time.sleep(0.02)
    with pytest.raises(KeyError), clock.measure("b"):
        raise KeyError
    assert 0.04 <= clock.seconds["a"] < 1
    assert clock.seconds["b"] >= 0


def test_a_block_inside_another_counts_under_its_own_name() -> None:
    clock = Clock(torch.device("cpu"))
    clock.add({"inner": 5.0})
    with clock.measure("outer"):
        time.sleep(0.01)
        with clock.measure("inner"):
            time.sleep(0.1)
    assert 5.1 <= clock.seconds["inner"] < 6
    assert 0.01 <= clock.seconds["outer"] < 0.1


def test_original_logits_are_computed_once_a_sample() -> None:
    problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), ROLES))
    calls: list[int] = []
    problem.original.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    samples = problem.forget.union(problem.retain)
    batches = list(samples.shuffled(5, 0))
    assert bool(problem.original_logits(batches[0]).isnan().all())
    problem.original_logits.compute_missing(samples)
    first = [problem.original_logits(batch) for batch in batches]
    again = [problem.original_logits(batch) for batch in batches]
    assert sum(calls) == 12
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.allclose(first[0], problem.original(batches[0].images), rtol=1e-12)
    unseen = next(iter(problem.unseen))
    assert bool(problem.original_logits(unseen).isnan().all())  # never a wrong number


def test_accuracy_is_unrounded_and_restores_the_mode() -> None:
    """Zero weights always answer class 0: of labels 0, 1, 0 two thirds are right."""
    pixels = blobs(5, 2)
    roles = make_roles("frrru", [1, 0, 1, 0, 0], 2)
    problem = make_problem(Linear(12, 2), make_dataset(pixels, roles))
    problem.model.train()
    assert problem.accuracy(problem.model, problem.retain) == 2 / 3
    assert problem.model.training


# Losses of a small ResNet in float64 on the CPU. A speed-up must leave them as they are; a change
# of the mathematics raises the method's `version` and replaces them.
GOLDEN: dict[str, tuple[Method, list[list[float]]]] = {
    "original": (
        Original(epochs=2, lr=0.05, batch_size=16),
        [
            [1.113770074260396, 0.7395348814775925, 1.3222916782622869],
            [0.6930064847340036, 0.521697464695385, 0.31141737702792655],
        ],
    ),
    "finetune": (
        Finetune(epochs=2, lr=0.01),
        [[1.2283785547869683, 1.3532733034136515], [1.2435503338017486, 1.3643930584919925]],
    ),
    "neggrad_plus": (NegGradPlus(epochs=1, lr=0.01), [[0.9877202917495969, 1.4136934500527025]]),
    "relabel": (
        Relabel(epochs=1, lr=0.01),
        [[1.1245304427531384], [1.1726670873291047, 1.095800027137249]],
    ),
    "bad_teacher": (BadTeacher(epochs=1, lr=0.001), [[0.7296443570785665, 0.37836795725728617]]),
    "scrub": (
        Scrub(epochs=1, msteps=1, lr=0.001),
        [[-0.05435422243844634], [1.2593868169588336, 1.2201071592675672]],
    ),
    "unsir": (
        Unsir(epochs=1, lr=0.01),
        [[2.510980926965755], [1.1666422524338564, 1.2333887695185104]],
    ),
    "salun": (
        Salun(density=0.5, inner=Relabel(epochs=1, lr=0.01)),
        [[1.1245304427531384], [1.2312247045459046, 1.1199849948180698]],
    ),
    "lotus": (
        Lotus(epochs=2, lr=0.001),
        [[1.080172557836046, 1.0954364652744604], [1.3601706841752046, 1.03711843638157]],
    ),
}


# The same methods in float32, on a network whose rounding errors do not grow (the ResNet's do).
# They were computed before any speed-up; those of LoTUS and Bad Teacher anew when their part of the
# retain set became 8 of 27 instead of 3 of each 9.
GOLDEN_IN_FLOAT32: dict[str, list[list[float]]] = {
    "original": [[1.076003, 0.9778869, 0.6954295], [0.4486978, 0.3759427, 0.3328127]],
    "finetune": [[1.134891, 1.005658], [0.9645115, 0.9360167]],
    "neggrad_plus": [[0.8965138, 1.013481]],
    "relabel": [[1.061062], [1.11608, 1.083339]],
    "bad_teacher": [[0.2334019, 0.1611467]],
    "scrub": [[-0.02281782], [1.099108, 1.143596]],
    "unsir": [[2.211271], [1.056434, 0.9631605]],
    "salun": [[1.061062], [1.11279, 1.08234]],
    "lotus": [[1.107965, 1.113127], [1.082599, 1.139376]],
}


def _golden_problem(model: nn.Module, dtype: torch.dtype) -> Problem:
    roles = make_roles("f" * 9 + "r" * 27 + "u" * 6 + "t" * 6, [i % 3 for i in range(48)], 3)
    return make_problem(
        model, make_dataset(blobs(48, 3), roles, seed=5, dtype=dtype), batch_size=16
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_loss_trace_is_golden(name: str) -> None:
    method, expected = GOLDEN[name]
    torch.manual_seed(0)
    problem = _golden_problem(resnet18_cifar(num_classes=3, width=2), torch.float64)
    found = [record.losses for record in unlearn(method, problem)]
    assert found == [pytest.approx(losses, rel=1e-9) for losses in expected]


@pytest.mark.parametrize("name", GOLDEN)
def test_loss_trace_in_float32_is_golden(name: str) -> None:
    torch.manual_seed(0)
    layers = (nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
    problem = _golden_problem(nn.Sequential(nn.Flatten(), *layers), torch.float32)
    found = [record.losses for record in unlearn(GOLDEN[name][0], problem)]
    assert {parameter.dtype for parameter in problem.model.parameters()} == {torch.float32}
    assert found == [pytest.approx(losses, rel=1e-4) for losses in GOLDEN_IN_FLOAT32[name]]
