"""What every entry of METHODS keeps to, and proof that a no-op or a wrong sign would be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import MethodError
from lotus_ray.bench.method_checks import checks
from lotus_ray.bench.method_checks.problems import problem, resnet, trained
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus, Pair
from lotus_ray.unlearning.problem import Problem

CLIPS = {"model_clip": 50.0, "gradient_clip": 50.0, "shrink": 0.0}  # ten steps of noise
SETTINGS: dict[str, dict[str, Any]] = {
    "original": {"epochs": 11, "lr": 0.05, "batch_size": 16},
    "gold": {"epochs": 12, "lr": 0.05, "batch_size": 16},
    "finetune": {"epochs": 2, "lr": 0.01},
    "neggrad_plus": {"epochs": 10, "lr": 0.02, "retain_weight": 0.7},
    "relabel": {"epochs": 2, "lr": 0.003},
    "bad_teacher": {"epochs": 4, "lr": 0.001},
    "scrub": {"epochs": 2, "msteps": 2, "lr": 0.005},
    "ssd": {"alpha": 2.4},
    "unsir": {"epochs": 2, "lr": 0.01},
    "salun": {"density": 0.5},
    "lotus": {"epochs": 3, "lr": 0.002},
    "l1_sparse": {"epochs": 3, "lr": 0.01},
    "msg": {"epochs": 5, "lr": 0.02},
    "ct": {"epochs": 3, "lr": 0.02},
    "fcs": {"epochs": 3, "lr": 0.005, "retain_lr": 0.1, "contrast_batch_size": 32},
    "delete": {"epochs": 3, "lr": 0.002},
    "boundary_shrink": {"epochs": 3, "lr": 0.002},
    "sfron": {"steps": 8, "lr": 0.02, "alpha": 50.0, "ascend_every": 1},
    "munba": {"epochs": 3, "lr": 0.02},
    "jit": {"lr": 0.003, "sigma": 0.3, "copies": 3, "passes": 2},
    "amun": {"epochs": 3, "lr": 0.01, "decay_every": 3, "attack_steps": 10},
    "certified_noise": {"epochs": 12, "lr": 0.02, "renyi": 1e7, **CLIPS},
    "cf_k": {"k": 2, "epochs": 2},
    "eu_k": {"k": 2, "epochs": 8, "lr": 0.05},
}
RAISES_FORGET_LOSS = (
    *("neggrad_plus", "relabel", "bad_teacher", "scrub", "lotus"),
    *("msg", "ct", "fcs", "delete", "boundary_shrink"),
    *("sfron", "munba", "jit", "amun"),
)
LEAST_RETAIN_ACCURACY = 0.75


def after(method: Method) -> Problem:
    """Unlearn, and return the problem with the unlearned model."""
    stage = problem()
    unlearn(method, stage)
    return stage


@cache
def unlearned(name: str) -> Problem:
    """Unlearn by the method of a name, once: tests look at the problem and change nothing."""
    return after(METHODS[name](**SETTINGS[name]))


def forget_loss(model: nn.Module, stage: Problem) -> float:
    """Return the mean cross-entropy on the forget set."""
    with torch.no_grad():
        shares = [b.mean(cross_entropy(model(b.images), b.labels)) for b in stage.forget]
    return float(sum(shares))


def check_that_forget_loss_rises(stage: Problem) -> None:
    """Fail where the forget loss is not clearly above that of leaving the model as it is."""
    assert forget_loss(stage.model, stage) > 1.2 * forget_loss(stage.original, stage)


@dataclass(frozen=True)
class NoOp(Method):
    """Yields a phase of nothing."""

    name: ClassVar[str] = "no_op"
    label: ClassVar[str] = "No-op"

    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
        yield Phase(batches=[], loss=lambda model, batch: batch.images.sum(), optimizer=optimizer)


@dataclass(frozen=True)
class FlippedNegGrad(NegGradPlus):
    """Trains on the forget set instead of away from it, as the published code does."""

    def phases(self, problem: Problem) -> Iterator[Phase[Pair]]:
        def flipped(phase: Phase[Pair]) -> Callable[[nn.Module, Pair], Tensor]:
            def loss(model: nn.Module, pair: Pair) -> Tensor:
                forgotten = pair[1].mean(cross_entropy(model(pair[1].images), pair[1].labels))
                return phase.loss(model, pair) + 2 * (1 - self.retain_weight) * forgotten

            return loss

        for phase in super().phases(problem):
            yield Phase(phase.batches, flipped(phase), phase.optimizer)


def test_every_method_has_settings_here() -> None:
    assert SETTINGS.keys() == METHODS.keys()


POSITIVE = [(name, each) for name, method in METHODS.items() for each in method.positive]


@pytest.mark.parametrize(("name", "setting"), POSITIVE)
def test_a_number_that_means_nothing_at_0_is_refused(name: str, setting: str) -> None:
    with pytest.raises(MethodError, match=f"{name}: {setting} must be above 0"):
        METHODS[name](**{setting: 0})


def test_steps_radii_and_partners_are_among_them() -> None:
    """0 of them would train nothing, divide by 0, or fail in the middle of a run."""
    assert set(POSITIVE) >= {
        ("sfron", "steps"),
        ("amun", "radius"),
        ("unsir", "retain_per_class"),
        ("scrub", "temperature"),
    }


@pytest.mark.parametrize(("name", "empty"), [("neggrad_plus", "forget"), ("fcs", "retain")])
def test_a_set_that_is_walked_without_end_must_not_be_empty(name: str, empty: str) -> None:
    """A pass over nothing, again and again, would never end."""
    stage = problem()
    nothing = getattr(stage, empty).draw(0)
    with pytest.raises(MethodError, match="one of them is empty"):
        unlearn(METHODS[name](epochs=1), replace(stage, **{empty: nothing}))  # type: ignore[call-arg]


def test_names_and_labels_are_those_of_the_table() -> None:
    labels = {name: method.label for name, method in METHODS.items()}
    assert (
        labels.items()
        >= {
            "original": "Original",
            "gold": "Gold Std",
            "finetune": "Finetuning",
            "neggrad_plus": "NegGrad+",
            "relabel": "Rnd Labeling",
            "bad_teacher": "Bad Teacher",
            "scrub": "SCRUB",
            "ssd": "SSD",
            "unsir": "UNSIR",
            "salun": "SalUn",
            "lotus": "LoTUS",
        }.items()
    )


@pytest.mark.parametrize("name", METHODS)
def test_weights_move_and_stay_finite(name: str) -> None:
    assert not checks.weights_stay(unlearned(name))


@pytest.mark.parametrize("name", RAISES_FORGET_LOSS)
def test_forget_loss_moves_as_the_method_claims(name: str) -> None:
    check_that_forget_loss_rises(unlearned(name))


@pytest.mark.parametrize("name", METHODS)
def test_retain_accuracy_stays_within_bounds(name: str) -> None:
    stage = unlearned(name)
    assert stage.accuracy(stage.original, stage.retain) > 0.95
    assert stage.accuracy(stage.model, stage.retain) >= LEAST_RETAIN_ACCURACY


def test_a_no_op_fails_these_tests() -> None:
    assert checks.weights_stay(after(NoOp()))
    with pytest.raises(AssertionError):
        check_that_forget_loss_rises(after(NoOp()))


def test_a_flipped_sign_fails_these_tests() -> None:
    stage = after(FlippedNegGrad(**SETTINGS["neggrad_plus"]))
    assert not checks.weights_stay(stage)  # it does move
    with pytest.raises(AssertionError):
        check_that_forget_loss_rises(stage)


@pytest.mark.parametrize("name", METHODS)
def test_teacher_and_its_buffers_do_not_move(name: str) -> None:
    assert not checks.original_changes(unlearned(name), trained(resnet))


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_weights(name: str) -> None:
    method = METHODS[name](**SETTINGS[name])
    assert not checks.seed_does_not_decide(method, problem, unlearned(name))


@pytest.mark.parametrize("name", METHODS)
def test_the_model_is_left_in_eval_mode(name: str) -> None:
    assert not checks.still_trains(unlearned(name))
