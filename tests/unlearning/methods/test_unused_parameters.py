"""Networks in which a parameter takes no part, as auxiliary classifiers do in eval mode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lotus_ray.base.errors import JobError
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.certified_noise import CertifiedNoise
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.salun import saliency_masks
from lotus_ray.unlearning.methods.ssd import Ssd
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, make_dataset, make_problem, make_roles


class WithSpare(Linear):
    """W x, and a parameter that no image passes."""

    def __init__(self) -> None:
        super().__init__(12, 2)
        self.spare = torch.nn.Parameter(torch.full((3,), 2.0))


def problem() -> Problem:
    """Return one white image to forget and one black one to keep, both of class 0."""
    pixels = torch.stack([torch.full((3, 2, 2), 255), torch.zeros(3, 2, 2)]).to(torch.uint8)
    model = WithSpare()
    torch.nn.init.ones_(model.head.weight)
    return make_problem(model, make_dataset(pixels, make_roles("fr", [0, 0], 2)), batch_size=1)


@pytest.mark.parametrize("importance", ["batch", "sample"])
def test_ssd_leaves_what_takes_no_part(importance: str) -> None:
    """The white image has (∓½)² = ¼ a weight, the black one 0: I_f = ¼, I_D = ⅛.

    At α = 1 all 24 weights are selected and become 1 · ⅛ / ¼ = ½. The spare has I_f = I_D = 0.
    """
    changed = problem()
    unlearn(Ssd(alpha=1.0, importance=importance), changed)
    assert torch.allclose(changed.model.head.weight, torch.full((2, 12), 0.5).double())
    assert torch.equal(changed.model.spare, torch.full((3,), 2.0).double())


def test_salun_selects_what_takes_part_first() -> None:
    """24 of 27 weights: |∇| is ½ in the head and 0 in the spare."""
    masks = dict(
        zip(
            [name for name, _ in problem().model.named_parameters()],
            saliency_masks(problem(), 24 / 27),
            strict=True,
        )
    )
    assert masks["head.weight"].all()
    assert not masks["spare"].any()


def test_certified_noise_shrinks_what_takes_no_part_too() -> None:
    """γ·λ = ½: the spare becomes 2·½ = 1 in a step, as its proof takes for granted; σ ≈ 0."""
    method = CertifiedNoise(
        epochs=1, lr=0, model_clip=100, noise_lr=0.5, shrink=1, renyi=1e40, noise_steps=1
    )
    changed = problem()
    unlearn(method, changed)
    assert torch.allclose(changed.model.spare, torch.full((3,), 1.0).double(), atol=1e-12)


def test_several_workers_refuse_what_takes_no_part_by_name() -> None:
    """A replica waits for the gradient of every parameter; one worker needs none."""
    alone = problem()
    unlearn(Finetune(epochs=1), alone)
    assert not torch.equal(alone.model.head.weight, alone.original.head.weight)
    several = replace(problem(), workers=Workers(rank=0, size=2))
    with pytest.raises(JobError, match="parameters take no part: spare\n"):
        unlearn(Finetune(epochs=1), several)
