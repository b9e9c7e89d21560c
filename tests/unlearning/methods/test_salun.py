"""SalUn over every method that trains."""

from __future__ import annotations

import pytest
import torch

from lotus_ray.base.errors import MethodError
from lotus_ray.bench.method_checks.problems import problem
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.salun import Salun, saliency_masks
from tests.unlearning.methods.test_contract import SETTINGS, unlearned

TRAINING = sorted(name for name, method in METHODS.items() if method.maskable and name != "ssd")


@pytest.mark.parametrize("name", TRAINING)
def test_half_of_the_weights_move_under_every_inner_method(name: str) -> None:
    """At density .5 no other weight moves, bit for bit. Of that half nearly all do that would.

    On images of 2×2 most of a deep kernel meets padding alone; only weight decay moves it.
    """
    masks = saliency_masks(problem(), 0.5)
    stage = problem()
    assert unlearn(Salun(density=0.5, inner=METHODS[name](**SETTINGS[name])), stage)
    models = (stage.model, unlearned(name).model, stage.original)
    moved = would = 0
    for mask, *values in zip(masks, *(model.parameters() for model in models), strict=True):
        ours, alone, before = values
        assert torch.equal(ours[~mask], before[~mask])
        moving = mask & (alone != before)
        moved += int((ours != before)[moving].sum())
        would += int(moving.sum())
    assert moved > 0.9 * would > 0.1 * sum(int(mask.sum()) for mask in masks)


def test_reports_name_what_it_wraps_but_for_the_published_one() -> None:
    assert Salun().title == Salun(inner=METHODS["relabel"]()).title == "SalUn"
    assert Salun(inner=METHODS["lotus"]()).title == "SalUn + LoTUS"
    assert Salun(inner=METHODS["boundary_shrink"]()).title == "SalUn + Boundary Shrink"
    assert METHODS["lotus"]().title == "LoTUS"


@pytest.mark.parametrize("name", ["original", "gold", "salun", "certified_noise"])
def test_what_a_mask_makes_no_sense_of_is_refused(name: str) -> None:
    """Original weights beside the mask would undo what certified noise proves."""
    with pytest.raises(MethodError, match=f"salun cannot wrap {name}"):
        Salun(inner=METHODS[name]())
