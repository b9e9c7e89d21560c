"""Needed passes at the size of the paper's ImageNet benchmark, against hand-derived numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.bench.bare import BareNetwork
from lotus_ray.job.floors import needed
from lotus_ray.job.passes import (
    FORWARD,
    TO_IMAGE,
    TRAIN,
    TRAIN_LAST,
    Pass,
    Samples,
    forwards,
    units,
)
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS

HEADLINE = Samples(classes=1000, forget=5_000, retain=45_000, batch_size=256, evaluation_rows=222)
SMALL = Samples(classes=2, forget=6, retain=10, batch_size=4, evaluation_rows=4)


def method(name: str, **settings: object) -> Method:
    return METHODS[name](**settings)


@pytest.mark.parametrize(
    ("chosen", "thousands"),
    [
        (method("finetune", epochs=3), 405),
        (method("neggrad_plus", epochs=3), 801),
        (method("relabel", epochs=3), 450),
        (method("bad_teacher", epochs=3), 171.5),
        (method("scrub", epochs=3, msteps=3), 450),
        (method("scrub", epochs=3, msteps=2), 435),
        (method("ssd"), 150),
        (method("unsir", epochs=3), 660),
        (method("salun", inner=method("relabel", epochs=3)), 465),
        (method("lotus", epochs=3), 176.5),
        (method("l1_sparse", epochs=3), 405),
        (method("ct", epochs=3), 405),
        (method("msg", epochs=3), 435),
        (method("fcs", epochs=3, contrast_batch_size=250), 480),
        (method("delete", epochs=3), 45),
        (method("boundary_shrink", epochs=3), 60),
        (method("sfron", steps=10), 159.18),
        (method("munba", epochs=3), 450),
        (method("jit"), 140),
        (method("amun", epochs=3), 495.015),
        (method("certified_noise", epochs=3), 405.768),
        (method("cf_k", epochs=3), 135),
        (method("eu_k", epochs=3), 135),
    ],
)
def test_units_of_the_headline(chosen: Method, thousands: float) -> None:
    """In thousands of U, 3 U a training image, with D_f = 5, D_r = 45, and 13.5 for 0.3 of D_r.

    Finetuning 3·45·3 = 405. NegGrad+: 176 batches of D_r, each beside one of D_f with 250 rows,
    3·(45 + 44)·3 = 801; walked once an epoch D_f would cost 3·50·3 = 450. Rnd Labeling 3·50·3.
    Bad Teacher 3·18.5·3, and 5 of the random network, is 171.5. SCRUB 3·3·5 + 3·3·45 = 450, with 2
    max passes 435. SSD 3·(5 + 45) = 150. UNSIR: an epoch is 5 + 5·5·2 + 2·5·3 + 45·3 = 220.
    SalUn 3·5 + 450. LoTUS 3·18.5·3 + 2·5 = 176.5.
    l1-sparse and CT are Finetuning; MSG has two
    gradients over 5 beside it, 405 + 2·5·3. FCS: 20 forget batches of 250 beside as many retain
    rows, so 3·5 + 3·(3·5 + 5 + 3·45).
    DELETE 3·5·3. Boundary Shrink: 2·5 + 5 for the attack, and 45. SFRon: Fisher 3·50, 10 batches
    of D_r with 256 rows, 2 of D_f with 250. MUNBa 3·50·3. JiT 5·(3 + 25). AMUN: 3·(45 + 2·5)·3,
    and 5 images that a guess gets right, 2 + 1 U each. Certified noise 405, and a noisy step of
    256 rows. CF-k and EU-k, the head alone: 45·3.
    """
    assert units(needed(chosen, HEADLINE)) == 1000 * thousands


def test_every_method_that_unlearns_has_a_floor() -> None:
    for name in METHODS.keys() - {"original", "gold"}:
        assert needed(method(name), SMALL)


def test_batches_are_as_even_as_those_of_an_epoch() -> None:
    """10 rows in batches of up to 4 are 4, 3, 3; evaluated in batches of up to 4 they are 4, 4, 2;
    D_f in 3, 3 is cycled to three batches."""
    assert SMALL.train(10) == Pass(TRAIN, (4, 3, 3))
    assert SMALL.evaluate(10) == Pass(FORWARD, (4, 4, 2))
    assert SMALL.evaluate(8) == Pass(FORWARD, (4, 4))
    beside = needed(method("neggrad_plus", epochs=1), SMALL)[1]
    assert beside == Pass(TRAIN, (3, 3, 3))


def test_units_and_forwards_add_up() -> None:
    """4 images trained on, 2 of noise and 3 looked at: 3·4 + 2·2 + 3 = 19 U, 9 images forward."""
    passes = [Pass(TRAIN, (3, 1)), Pass(TO_IMAGE, (2,)), Pass(FORWARD, (3,))]
    assert units(passes) == 19
    assert forwards(passes) == 9


class Counting(nn.Module):
    """Adds up the images that it sees, and notes its mode and whether gradients flow to images."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((len(images), self.training, images.requires_grad))
        logits: Tensor = self.head(images.flatten(1))
        return logits


def test_the_bare_network_does_the_passes_and_nothing_else() -> None:
    model = Counting()
    bare = BareNetwork(model, torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1]))
    before = model.head.weight.detach().clone()
    bare.run([Pass(TRAIN, (3, 2)), Pass(TO_IMAGE, (4,)), Pass(FORWARD, (5,))])
    assert model.seen == [(3, True, False), (2, True, False), (4, False, True), (5, False, False)]
    assert model.head.weight.grad is not None
    assert torch.equal(model.head.weight, before)


def test_training_the_last_blocks_goes_back_as_far_as_these() -> None:
    """Three linear layers, each a block: a backward through the last two, whose inputs are 12
    and 3 numbers. The first one stays in eval mode and gets no gradient, until it trains again."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, 3), nn.Linear(3, 3))
    names = [("1.weight", "1.bias"), ("2.weight", "2.bias"), ("3.weight", "3.bias")]
    bare = BareNetwork(model, torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1]), names)
    [two] = needed(method("cf_k", k=2, epochs=1), SMALL)
    assert two == Pass(TRAIN_LAST, (4, 3, 3), last=2)
    bare.run([two])
    assert [layer.weight.grad is not None for layer in model[1:]] == [False, True, True]
    assert [layer.training for layer in model[1:]] == [False, True, True]
    bare.run(needed(method("eu_k", epochs=1), SMALL))
    assert [layer.weight.requires_grad for layer in model[1:]] == [False, False, True]
    bare.run([Pass(TRAIN, (3,))])
    assert all(layer.weight.grad is not None for layer in model[1:])
