"""SSD against weights derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lotus_ray.bench.method_checks.checkpoints import Kept, Resumed
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.ssd import Ssd
from tests.toy import blobs, make_dataset, make_problem, make_roles
from tests.unlearning.methods.test_one_step import salun_problem, weight_after, white_problem


def test_ssd_dampens_once_by_hand() -> None:
    """w = (ln 3)/24: p = s(12 w, −12 w) = (¾, ¼); forget rows of class 1, retain rows of class 0.

    One batch each. Mean gradient of D_f (class 1): p − y = (¾, −¾), squared I_f = 9/16; of D_r
    (class 0): (−¼, +¼), squared 1/16. I_D = (9/16 + 1/16)/2 = 5/16.
    α = 1: 9/16 > 5/16, so θ ← θ·min(λ·I_D/I_f, 1) = θ·min(1.5·(5/9), 1) = θ·⅚ for λ = 1.5.
    In one batch of both kinds the mean gradient would be ¼, I_D 1/16, and the factor ⅙.
    """
    weight = math.log(3) / 24
    problem = white_problem(weight=weight)
    (record,) = unlearn(Ssd(alpha=1.0, dampening=1.5), problem)
    assert weight_after(problem) == pytest.approx(weight * 5 / 6, abs=1e-15)
    assert record.losses == []
    assert record.notes == {"dampened": 24, "weights": 24, "forget_share": 0.5}


def test_ssd_leaves_what_is_not_selected_and_never_amplifies() -> None:
    """α = 2: 9/16 < 10/16, nothing moves. α = 1 and λ = 20: min(100/9, 1) = 1, nothing either."""
    weight = math.log(3) / 24
    for method in (Ssd(alpha=2.0), Ssd(alpha=1.0, dampening=20.0)):
        problem = white_problem(weight=weight)
        (record,) = unlearn(method, problem)
        assert torch.equal(problem.model.head.weight, problem.original.head.weight)
        assert record.notes["dampened"] == 0


@pytest.mark.parametrize("importance", ["batch", "sample"])
def test_ssd_can_select_nothing_where_alpha_reaches_the_inverse_of_the_forget_share(
    importance: str,
) -> None:
    """8 forget and 24 retain rows, in 1 and 3 batches: a quarter, so nothing from α = 4 on.

    I_D = (I_f + 3·I_r)/4 ≥ I_f/4. Below, at α = 1.1, a part of the weights is selected.
    """
    for alpha, some in ((4.01, False), (10.0, False), (1.1, True)):
        problem = salun_problem()
        (record,) = unlearn(Ssd(alpha=alpha, importance=importance), problem)
        pairs = zip(problem.model.parameters(), problem.original.parameters(), strict=True)
        moved = sum(int((ours != before).sum()) for ours, before in pairs)
        assert (record.notes["dampened"] > 0) == (moved > 0) == some
        assert record.notes["dampened"] >= moved  # a weight of 0 stays 0
        assert record.notes["forget_share"] == 0.25
        assert record.notes["weights"] == sum(v.numel() for v in problem.model.parameters())


def test_ssd_walks_each_set_once_in_batches_of_one_kind() -> None:
    """8 forget and 24 retain rows in batches of 8."""
    problem = salun_problem()
    both = problem.forget.union(problem.retain)
    kind_of = {
        image.numpy().tobytes(): bool(is_forgotten)
        for batch in both
        for image, is_forgotten in zip(batch.images, batch.forget, strict=True)
    }
    assert len(kind_of) == 32
    kinds: list[list[bool]] = []

    def note(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kinds.append([kind_of[image.numpy().tobytes()] for image in inputs[0]])

    problem.model.register_forward_pre_hook(note)
    unlearn(Ssd(), problem)
    assert kinds == [[True] * 8, *[[False] * 8] * 3]


def test_ssd_sample_importance_by_hand() -> None:
    """Per sample: I_f = 9/16 as before; I_D = (2·9/16 + 2·1/16)/4 = 5/16.

    α = 1: 9/16 > 5/16, λ = 1: θ·5/9, whatever the batch size.
    """
    weight = math.log(3) / 24
    for batch_size in (1, 100):
        problem = white_problem(weight=weight, batch_size=batch_size)
        unlearn(Ssd(alpha=1.0, importance="sample"), problem)
        assert weight_after(problem) == pytest.approx(weight * 5 / 9, abs=1e-15)


def test_ssd_that_goes_on_from_a_checkpoint_asks_for_no_gradient() -> None:
    whole, kept = salun_problem(), Kept()
    records = unlearn(Ssd(alpha=1.1), whole, kept)
    problem, calls = salun_problem(), []
    problem.model.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    assert unlearn(Ssd(alpha=1.1), problem, Resumed(kept.contents[0])) == records
    assert calls == []
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in problem.model.state_dict().items())


def test_ssd_importances_of_both_kinds_agree_at_batches_of_one() -> None:
    images = blobs(24, 3)
    roles = make_roles("f" * 6 + "r" * 18, [place % 3 for place in range(24)], 3)
    torch.manual_seed(3)
    model = resnet18_cifar(num_classes=3, width=2)
    weights = []
    for importance in ("batch", "sample"):
        problem = make_problem(model, make_dataset(images, roles), batch_size=1)
        unlearn(Ssd(alpha=1.0, importance=importance), problem)
        weights.append(torch.cat([value.flatten() for value in problem.model.parameters()]))
    assert torch.allclose(weights[0], weights[1], rtol=1e-9)
