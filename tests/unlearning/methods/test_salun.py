"""SalUn over every method that trains."""

from __future__ import annotations

import pytest
import torch

from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.salun import Salun, saliency_masks
from tests.unlearning.methods.test_contract import SETTINGS, problem

TRAINING = sorted(METHODS.keys() - {"original", "gold", "salun", "ssd"})


@pytest.mark.parametrize("name", TRAINING)
def test_half_of_the_weights_move_under_every_inner_method(name: str) -> None:
    """At density .5 no other weight moves, bit for bit, and nearly all of that half do."""
    masks = saliency_masks(problem(), 0.5)
    stage = problem()
    assert unlearn(Salun(density=0.5, inner=METHODS[name](**SETTINGS[name])), stage)
    moved = 0
    for mask, ours, before in zip(
        masks, stage.model.parameters(), stage.original.parameters(), strict=True
    ):
        assert torch.equal(ours[~mask], before[~mask])
        moved += int((ours[mask] != before[mask]).sum())
    assert moved > 0.9 * sum(int(mask.sum()) for mask in masks)


def test_reports_name_what_it_wraps_but_for_the_published_one() -> None:
    assert Salun().title == Salun(inner=METHODS["relabel"]()).title == "SalUn"
    assert Salun(inner=METHODS["lotus"]()).title == "SalUn + LoTUS"
    assert Salun(inner=METHODS["boundary_shrink"]()).title == "SalUn + Boundary Shrink"
    assert METHODS["lotus"]().title == "LoTUS"
