"""LoTUS against numbers derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.losses import soft_cross_entropy
from lotus_ray.unlearning.methods.bad_teacher import BadTeacher
from lotus_ray.unlearning.methods.lotus import Lotus, targets
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles


def test_temperature_follows_the_unrounded_accuracies() -> None:
    """α = 2, Acc_f = 2/3, Acc_u = 1/3: τ_d = e^(2/3) = 1.9477340410546757.

    With accuracies rounded to two decimals, as the published code does, it would be
    e^(2·(0.67 − 0.33)) = e^0.68 = 1.9738777322304477.
    """
    assert Lotus(alpha=2.0).temperature(2 / 3, 1 / 3) == pytest.approx(
        1.9477340410546757, abs=1e-15
    )


def test_loss_on_fixed_logits_and_noise_by_hand() -> None:
    """Teacher (2·ln 3, 0) in both rows, student (ln 3, 0) in both, no noise (g = 0), τ_d = 2.

    Forget row: target = softmax(ln 3, 0) = (¾, ¼); log s(z_s) = (ln ¾, ln ¼);
    loss = −¾·ln ¾ − ¼·ln ¼ = 0.5623351446188083.
    Retain row: target = one-hot at argmax(z_t) = (1, 0); loss = −ln ¾ = 0.2876820724517809.
    Mean over the two rows: 0.4250086085352946.
    """
    teacher = torch.tensor([[2 * math.log(3), 0.0]] * 2, dtype=torch.float64)
    student = torch.tensor([[math.log(3), 0.0]] * 2, dtype=torch.float64)
    still = torch.full((2, 2), math.exp(-1), dtype=torch.float64)  # u = e⁻¹ gives g = 0
    wanted = targets(teacher, torch.tensor([True, False]), 2.0, still)
    rows = soft_cross_entropy(student, wanted)
    assert rows[0].item() == pytest.approx(0.5623351446188083, abs=1e-15)
    assert rows[1].item() == pytest.approx(0.2876820724517809, abs=1e-15)
    assert rows.mean().item() == pytest.approx(0.4250086085352946, abs=1e-15)


def _classifier(pixels: Tensor, labels: Tensor) -> nn.Module:
    """Return a linear model that is right on its training samples."""
    model = Linear(12, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        images = pixels.double() / 255
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


def test_notes_record_the_temperature_of_each_epoch() -> None:
    """All forget samples right, 1 of 3 unseen right: τ_d = e^(α·(1 − 1/3))."""
    pixels = blobs(24, 3)
    labels = [place % 3 for place in range(24)]
    labels[18], labels[19] = 2, 2  # two of the three unseen samples carry a wrong label
    roles = make_roles("f" * 6 + "r" * 12 + "u" * 3 + "t" * 3, labels, 3)
    model = _classifier(pixels[:18], torch.tensor(labels[:18]))
    problem = make_problem(model, make_dataset(pixels, roles))
    record = unlearn(Lotus(epochs=1, lr=1e-9, alpha=3.0), problem)[0]
    assert record.notes["forget_accuracy"] == 1.0
    assert record.notes["unseen_accuracy"] == 1 / 3
    assert record.notes["tau"] == pytest.approx(math.exp(3.0 * (1 - 1 / 3)))


def test_a_calibration_set_takes_the_place_of_the_unseen_one() -> None:
    """1 of 2 calibration labels is right, all 3 unseen ones are: τ_d = e^(α·(1 − ½)).

    The fixed part of the retain set holds no calibration image either.
    """
    pixels = blobs(24, 3)
    labels = [place % 3 for place in range(24)]
    labels[22] = (labels[22] + 1) % 3
    roles = make_roles("f" * 6 + "r" * 12 + "u" * 3 + "t" + "c" * 2, labels, 3)
    model = _classifier(pixels[:18], torch.tensor(labels[:18]))
    problem = make_problem(model, make_dataset(pixels, roles))
    phase = next(Lotus(epochs=1, alpha=3.0, retain_fraction=1.0).phases(problem))
    assert phase.notes["unseen_accuracy"] == 0.5
    assert phase.notes["tau"] == pytest.approx(math.exp(3.0 * 0.5))
    assert {int(row) for batch in phase.batches for row in batch.rows} == set(range(18))


def test_stops_when_the_forget_set_is_less_accurate_than_the_unseen_set() -> None:
    """Forget labels all wrong (accuracy 0), unseen all right (1): 0 − 1 ≤ −0.01, no phase."""
    pixels = blobs(24, 3)
    labels = [place % 3 for place in range(24)]
    model = _classifier(pixels[6:18], torch.tensor(labels[6:18]))
    wrong = [(label + 1) % 3 for label in labels[:6]] + labels[6:]
    problem = make_problem(
        model, make_dataset(pixels, make_roles("f" * 6 + "r" * 12 + "u" * 3 + "t" * 3, wrong, 3))
    )
    assert unlearn(Lotus(epochs=5), problem) == []
    assert torch.equal(problem.model.head.weight, problem.original.head.weight)


def test_uses_the_fixed_part_of_the_retain_set_and_all_of_the_forget_set() -> None:
    """6 forget + 30 % of 20 retain (2 classes of 10, 3 each) = 12 rows: 3 batches of 4."""
    pixels = blobs(30, 2)
    roles = make_roles("f" * 6 + "r" * 20 + "u" * 2 + "t" * 2, [i % 2 for i in range(30)], 2)
    model = _classifier_of_two(pixels)
    problem = make_problem(model, make_dataset(pixels, roles), batch_size=4)
    seen: list[set[int]] = []
    for phase in Lotus(epochs=2, lr=1e-9).phases(problem):
        batches = list(phase.batches)
        assert [len(batch.rows) for batch in batches] == [4, 4, 4]
        seen.append({int(row) for batch in batches for row in batch.rows})
    assert seen[0] == seen[1]
    assert set(range(6)) < seen[0]
    assert len(seen[0]) == 12


@pytest.mark.parametrize("retained", [2, 3])
def test_a_few_retained_images_of_many_classes_are_not_rounded_away(retained: int) -> None:
    """0.3 of one image a class, in 2 or 3 classes, is 0.6 or 0.9 of all: one, and never none."""
    roles = make_roles(
        "f" * 4 + "r" * retained + "u" * (6 - retained), [i % 3 for i in range(10)], 3
    )
    problem = make_problem(Linear(12, 3), make_dataset(blobs(10, 3), roles))
    for method in (Lotus(class_unlearning=True), BadTeacher()):
        batches = list(next(method.phases(problem)).batches)
        assert sum(int((~batch.forget).sum()) for batch in batches) == 1


def test_a_temperature_that_is_no_number_has_a_reason() -> None:
    """e^709 is below the largest float64, e^710 is not; e^−100 divides by next to nothing."""
    assert Lotus(alpha=709.0).temperature(1.0, 0.0) == math.exp(709)
    with pytest.raises(MethodError, match=r"alpha 710 and Δ = 1\.0000 is too large"):
        Lotus(alpha=710.0).temperature(1.0, 0.0)
    with pytest.raises(MethodError, match=r"Δ = -0\.0050 is too small"):
        Lotus(alpha=20_000.0).temperature(0.5, 0.505)


def test_without_unseen_images_lotus_says_so_before_it_trains() -> None:
    """And trains with class_unlearning, which takes the accuracy on them as 0."""
    pixels, labels = blobs(8, 2), [place % 2 for place in range(8)]
    problem = make_problem(Linear(12, 2), make_dataset(pixels, make_roles("ffffrrrr", labels, 2)))
    with pytest.raises(MethodError, match="no image is unseen") as raised:
        unlearn(Lotus(epochs=1), problem)
    assert "calibration" in raised.value.nearest
    assert torch.equal(problem.model.head.weight, problem.original.head.weight)
    assert len(unlearn(Lotus(epochs=1, class_unlearning=True), problem)) == 1
    nothing = make_problem(Linear(12, 2), make_dataset(pixels, make_roles("rrrrrruu", labels, 2)))
    with pytest.raises(MethodError, match="no image to forget"):
        unlearn(Lotus(epochs=1), nothing)


def _classifier_of_two(pixels: Tensor) -> nn.Module:
    model = Linear(12, 2).double()
    with torch.no_grad():
        model.head.weight[0] = pixels[0].flatten().double()
        model.head.weight[1] = pixels[1].flatten().double()
    return model
