"""One step of each rival against weights derived by hand.

A linear model without bias, logits W x, on images of 12 equal features: a white image is x = 1 in
each, a black one x = 0 and never moves W. Two classes; W = (w, −w) in every feature keeps the
logits of a white image at (12 w, −12 w). Retain rows are white of class 0, forget rows white of
class 1 unless a test says otherwise. With W = 0, p = (½, ½), and the gradient of CE at a white
image of class 0 is (−½, +½) in each feature, of class 1 (+½, −½).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.losses import wrong_labels
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.bad_teacher import BadTeacher
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.lotus import softmax_targets
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus
from lotus_ray.unlearning.methods.relabel import Relabel
from lotus_ray.unlearning.methods.salun import Salun, saliency_masks
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.methods.ssd import Ssd
from lotus_ray.unlearning.methods.unsir import Unsir
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles

WHITE = torch.full((3, 2, 2), 255, dtype=torch.uint8)


def linear(weight: float = 0.0) -> Linear:
    """Return the model with W = (weight, −weight)."""
    model = Linear(12, 2).double()
    with torch.no_grad():
        model.head.weight[0], model.head.weight[1] = weight, -weight
    return model


def white_problem(weight: float = 0.0, roles: str = "ffrr", batch_size: int = 100) -> Problem:
    """Return the problem of white images: forget rows of class 1, the others of class 0."""
    labels = [1 if role == "f" else 0 for role in roles]
    pixels = WHITE.expand(len(roles), 3, 2, 2)
    return make_problem(
        linear(weight), make_dataset(pixels, make_roles(roles, labels, 2)), batch_size
    )


def weight_after(problem: Problem) -> float:
    """Return w, having checked that W is still (w, −w) in every feature."""
    found = problem.model.head.weight.detach()
    assert torch.allclose(found[0], -found[1], atol=1e-14)
    assert torch.allclose(found[0], found[0, 0].expand(12), atol=1e-14)
    return float(found[0, 0])


def test_neggrad_plus_descends_on_retain_and_ascends_on_forget() -> None:
    """Gradient .8·(−½) − .2·(+½) = −½; one step of lr .1: w = +0.05.

    Added instead of subtracted, it would be .8·(−½) + .2·(+½) = −.3 and w = +0.03.
    Loss: .8·ln 2 − .2·ln 2 = .6·ln 2.
    """
    problem = white_problem()
    records = unlearn(NegGradPlus(epochs=1, lr=0.1, retain_weight=0.8), problem)
    assert records[0].losses == [pytest.approx(0.6 * math.log(2))]
    assert weight_after(problem) == pytest.approx(0.05, abs=1e-15)


def test_neggrad_plus_cycles_the_forget_set_along_the_retain_set() -> None:
    """6 retain and 2 forget rows in batches of 2: 3 steps, each with both forget rows."""
    problem = white_problem(roles="ffrrrrrr", batch_size=2)
    phase = next(NegGradPlus().phases(problem))
    pairs = [
        ({int(r) for r in retained.rows}, {int(r) for r in forgotten.rows})
        for retained, forgotten in phase.batches
    ]
    assert [forgotten for _, forgotten in pairs] == [{0, 1}] * 3
    assert set().union(*(retained for retained, _ in pairs)) == set(range(2, 8))


def test_relabel_teaches_the_wrong_class_then_the_retain_set() -> None:
    """Two classes: the only wrong label of the forget rows is 0, so both phases pull alike.

    Phase 1: gradient (−½, +½), lr .1: w = 0.05. Phase 2: logits (.6, −.6),
    p_1 = 1/(1 + e^1.2) = 0.2314752165009824; w = 0.05 + .1·0.2314752165009824.
    """
    problem = white_problem()
    unlearn(Relabel(epochs=1, lr=0.1, momentum=0, weight_decay=0), problem)
    assert weight_after(problem) == pytest.approx(0.05 + 0.02314752165009824, abs=1e-15)


def test_relabel_draws_every_wrong_class_alike_and_anew_each_epoch() -> None:
    """K = 4, 900 rows of class 2: classes 0, 1 and 3 come 300 ± 4·√(900·⅓·⅔) = ± 57 times."""
    roles = make_roles("f" * 900 + "r", [2] * 900 + [0], 4)
    problem = make_problem(Linear(12, 4), make_dataset(WHITE.expand(901, 3, 2, 2), roles), 1000)
    drawn: list[Tensor] = []
    for epoch in range(2):
        batch = next(iter(problem.forget.shuffled(1000, 0)))
        uniform = problem.uniform(batch, 1, "relabel", epoch)[:, 0]
        drawn.append(wrong_labels(batch.labels, uniform, 4))
    counts = torch.bincount(drawn[0], minlength=4)
    assert counts[2] == 0
    assert all(abs(int(counts[label]) - 300) < 57 for label in (0, 1, 3))
    assert not torch.equal(drawn[0], drawn[1])


def test_bad_teacher_imitates_the_random_network_on_forget_rows_alone() -> None:
    """W = 0 is the original; the bad teacher answers (¾, ¼) to a white image.

    Forget rows: the gradient of KL(ỹ‖s) is s − ỹ = (½ − ¾, ½ − ¼) = (−¼, +¼); retain rows:
    s − s = 0. Mean over 2 + 2 rows: −⅛ a feature. Adam's first step is lr·sign: w = +0.01.
    Loss: ½·KL((¾, ¼) ‖ (½, ½)) = ½·(¾·ln 1.5 + ¼·ln ½) = 0.0654060179705685.
    """
    problem = white_problem()
    problem.random_model = lambda: linear(math.log(3) / 24).requires_grad_(False)
    method = BadTeacher(epochs=1, lr=0.01, retain_fraction=1.0)
    records = unlearn(method, problem)
    assert records[0].losses == [pytest.approx(0.0654060179705685, abs=1e-15)]
    assert weight_after(problem) == pytest.approx(0.01, abs=1e-8)


def test_bad_teacher_shuffles_both_sets_together() -> None:
    """The published code feeds forget rows first; here the order mixes them."""
    problem = white_problem(roles="f" * 20 + "r" * 20, batch_size=40)
    batch = next(iter(next(BadTeacher(retain_fraction=1.0).phases(problem)).batches))
    assert batch.forget.sum() == 20
    assert not batch.forget[:20].all()


def test_scrub_moves_away_then_stays_near() -> None:
    """Starting at the teacher, KL and its gradient are 0: the max phase moves nothing (wd 0).

    Min phase, γ = 1: CE alone pulls, gradient (−½, +½); Adam's first step with a gradient is
    lr·g/|g|·(bias-corrected): after one zero gradient m̂ = .1·g/(1 − .81) and
    v̂ = .001·g²/(1 − .998001), so the step is lr·(.1/.19)/√(.001/.001999) = lr·0.7441354.
    """
    problem = white_problem()
    records = unlearn(Scrub(epochs=1, msteps=1, lr=0.01, weight_decay=0, temperature=1), problem)
    assert records[0].losses == [pytest.approx(0, abs=1e-15)]
    assert records[1].losses == [pytest.approx(math.log(2))]
    step = (0.1 / 0.19) / math.sqrt(0.001 / 0.001999)
    assert weight_after(problem) == pytest.approx(0.01 * step, abs=1e-8)


def test_scrub_maximises_the_distance_by_hand() -> None:
    """Teacher (¾, ¼) at T = 2 of logits (2·ln 3, 0) ~ (ln 3, −ln 3); student W = 0, s = (½, ½).

    −T²·KL = −4·(¾·ln 1.5 + ¼·ln ½) = −0.5232481437645476 and its gradient
    −T²·(s − p)/T = −2·(−¼, +¼) = (+½, −½): Adam's first step takes w to −lr.
    """
    problem = white_problem(weight=math.log(3) / 12)
    with torch.no_grad():
        problem.model.head.weight.zero_()
    method = Scrub(epochs=1, msteps=1, lr=0.01, weight_decay=0, temperature=2.0)
    phase = next(method.phases(problem))
    batch = next(iter(phase.batches))
    loss = phase.loss(problem.model, batch)
    assert loss.item() == pytest.approx(-0.5232481437645476, abs=1e-14)
    loss.backward()  # type: ignore[no-untyped-call]
    assert problem.model.head.weight.grad[0, 0].item() == pytest.approx(0.5, abs=1e-14)


def test_scrub_changes_the_model_that_is_returned() -> None:
    """The published code trains a copy and returns the untouched original."""
    problem = white_problem(weight=0.01)
    unlearn(Scrub(epochs=2, msteps=1, lr=0.01), problem)
    assert not torch.equal(problem.model.head.weight, problem.original.head.weight)


def test_unsir_impairs_and_repairs_by_hand() -> None:
    """No noise steps and black-and-white bounds: the noise is what was drawn, clamped to [0, 1].

    W = 0: noise of mean brightness n_i in feature i pulls by (−½, +½)·n_i, a white retain
    image by (−½, +½)·1. One impair step of lr .1: w_i = .05·(n_i + 1).
    """
    problem = white_problem(roles="fr")
    method = Unsir(epochs=1, lr=0.1, momentum=0, weight_decay=0, noise_steps=0)
    phase = next(method.phases(problem))
    forgotten, retained = next(iter(phase.batches))
    assert (forgotten.rows.item(), retained.rows.item()) == (0, 1)
    noise = method.noise(problem, forgotten, 0)
    assert noise.min() >= 0
    assert noise.max() <= 1
    phase.loss(problem.model, (forgotten, retained)).backward()  # type: ignore[no-untyped-call]
    phase.optimizer.step()
    expected = 0.05 * (noise.flatten() + 1)
    assert torch.allclose(problem.model.head.weight[0], expected, atol=1e-15)


def test_unsir_takes_five_noise_steps_that_raise_the_distance() -> None:
    """Each Adam step moves a pixel by about lr: five steps by about 5·lr at most."""
    problem = white_problem(weight=0.05, roles="ffrr")
    batch = next(iter(problem.forget))
    still = Unsir(noise_steps=0).noise(problem, batch, 0)
    calls: list[int] = []
    problem.model.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    moved = Unsir(noise_steps=5, noise_lr=0.01).noise(problem, batch, 0)
    assert len(calls) == 6  # the fixed answer once, then one forward a step

    def distance(noise: Tensor) -> float:
        with torch.no_grad():
            return float((problem.model(noise) - problem.model(batch.images)).square().mean())

    assert distance(moved) > distance(still)
    assert 0 < (moved - still).abs().max() <= 0.055


def test_unsir_uses_a_part_of_the_retain_set() -> None:
    """2 classes, at most 3 retain samples each: the repair phase sees 6 of 20."""
    roles = make_roles("f" * 4 + "r" * 20, [place % 2 for place in range(24)], 2)
    problem = make_problem(Linear(12, 2), make_dataset(blobs(24, 2), roles))
    impair, repair = Unsir(epochs=1, retain_per_class=3).phases(problem)
    assert [len(forgotten.rows) for forgotten, _ in impair.batches] == [4]
    (batch,) = repair.batches
    assert torch.bincount(batch.labels).tolist() == [3, 3]


def test_salun_mask_holds_the_largest_gradients_of_the_forget_set() -> None:
    """Features of brightness 1 … 12 twelfths and one forget row of class 1 at W = 0.

    |gradient| of feature i is ½·i/12 in both rows: density ¼ of 24 weights are the 6 largest,
    features 10, 11 and 12 of both classes.
    """
    ramp = torch.tensor([round(255 * i / 12) for i in range(1, 13)], dtype=torch.uint8)
    pixels = torch.stack([ramp.reshape(3, 2, 2), WHITE])
    problem = make_problem(linear(), make_dataset(pixels, make_roles("fr", [1, 0], 2)))
    (mask,) = saliency_masks(problem, 0.25)
    assert mask.tolist() == [[False] * 9 + [True] * 3] * 2


def salun_problem() -> Problem:
    """Return a problem of a small ResNet with batch normalisation."""
    torch.manual_seed(1)
    roles = make_roles("f" * 8 + "r" * 24 + "u" * 4, [place % 3 for place in range(36)], 3)
    model = resnet18_cifar(num_classes=3, width=2)
    return make_problem(model, make_dataset(blobs(36, 3), roles), batch_size=8)


@pytest.mark.parametrize(
    "inner",
    [
        Relabel(epochs=2, lr=0.05, momentum=0.9, weight_decay=0.1),
        METHODS["lotus"](epochs=2, lr=0.01, weight_decay=0.1),
        Finetune(epochs=2, lr=0.05, weight_decay=0.1),
    ],
)
def test_salun_leaves_masked_out_weights_bit_identical(inner: object) -> None:
    """With momentum and weight decay, after all passes, the repair pass too."""
    problem = salun_problem()
    masks = saliency_masks(problem, 0.3)
    unlearn(Salun(density=0.3, inner=inner), problem)  # type: ignore[arg-type]
    moved = 0
    for mask, ours, before in zip(
        masks, problem.model.parameters(), problem.original.parameters(), strict=True
    ):
        assert torch.equal(ours[~mask], before[~mask])
        moved += int((ours[mask] != before[mask]).sum())
    assert moved > 0.9 * sum(int(mask.sum()) for mask in masks)


def test_head_only_finetuning_moves_the_head_alone() -> None:
    problem = salun_problem()
    unlearn(Finetune(epochs=1, lr=0.05, head_only=True), problem)
    before = dict(problem.original.named_parameters())
    moved = {n for n, v in problem.model.named_parameters() if not torch.equal(v, before[n])}
    assert moved == {"fc.weight", "fc.bias"}


def test_lotus_softmax_variant_draws_no_noise() -> None:
    """Targets at τ = 2 of z = (2·ln 3, 0): (¾, ¼) on forget rows, the argmax on retain rows."""
    teacher = torch.tensor([[2 * math.log(3), 0.0]] * 2, dtype=torch.float64)
    noise = torch.rand(2, 2, dtype=torch.float64)
    found = softmax_targets(teacher, torch.tensor([True, False]), 2.0, noise)
    expected = torch.tensor([[0.75, 0.25], [1.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(found, expected, atol=1e-15)


def test_lotus_class_unlearning_takes_the_unseen_accuracy_as_zero() -> None:
    """All white images answered class 0: forget accuracy 0 (class 1), so τ = e^0 = 1 and no stop.

    With the unseen accuracy of 1 it would stop at once.
    """
    problem = white_problem(weight=0.1, roles="ffrruu")
    assert unlearn(METHODS["lotus"](epochs=1), problem) == []
    records = unlearn(METHODS["lotus"](epochs=1, class_unlearning=True), problem)
    assert [record.notes["tau"] for record in records] == [1.0]


def test_salun_holds_an_inner_method_that_edits_weights_without_steps() -> None:
    problem = salun_problem()
    masks = saliency_masks(problem, 0.3)
    (record,) = unlearn(Salun(density=0.3, inner=Ssd(alpha=1.0)), problem)
    assert record.notes["dampened"] > 0
    pairs = list(zip(masks, problem.model.parameters(), problem.original.parameters(), strict=True))
    assert all(torch.equal(ours[~mask], before[~mask]) for mask, ours, before in pairs)
    assert not all(torch.equal(ours, before) for _, ours, before in pairs)
