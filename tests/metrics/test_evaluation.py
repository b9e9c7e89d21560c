"""One pass: outputs by hand, buffers untouched, the same for any number of workers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.outputs import SAMPLES, TENSORS, Outputs
from lotus_ray.metrics.summary import summarise
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.problem import Workers
from lotus_ray.roles import ROLES
from tests.toy import Linear, blobs, make_roles, make_warm

TABLE = make_roles("ffrrruutt", [0, 1, 0, 1, 0, 0, 1, 1, 0], 2)


def _evaluate(model: torch.nn.Module, pixels: Tensor, workers: Workers | None = None) -> Outputs:
    warm = make_warm(pixels, TABLE, workers)
    return evaluate(
        model,
        {role: warm.split(role) for role in ROLES},
        roles=np.array(ROLES)[TABLE.roles],
        labels=TABLE.labels,
        num_classes=2,
        device=warm.device,
        workers=warm.workers,
    )


def _constant() -> Linear:
    """Answer (¾, ¼) to a white image: each of 12 features adds (ln 3)/12 to the first logit."""
    model = Linear(12, 2).double()
    with torch.no_grad():
        model.head.weight[0] = math.log(3) / 12
    return model


def test_outputs_by_hand() -> None:
    """Every image is white, p = (¾, ¼).

    Entropy: −¾·ln ¾ − ¼·ln ¼ = 0.5623351446188083. Label 0: loss ln(4/3), margin ln 3;
    label 1: loss ln 4, margin −ln 3. Class sums of retain (labels 0, 1, 0): 2p in row 0, p in 1.
    """
    outputs = _evaluate(_constant(), torch.full((9, 3, 2, 2), 255).to(torch.uint8))
    zero = TABLE.labels == 0
    assert outputs.predicted.tolist() == [0] * 9
    assert np.allclose(outputs.entropy, 0.5623351446188083, atol=1e-14)
    assert np.allclose(outputs.loss, np.where(zero, math.log(4 / 3), math.log(4)), atol=1e-14)
    assert np.allclose(outputs.margin, np.where(zero, math.log(3), -math.log(3)), atol=1e-13)
    assert np.allclose(outputs.forget_probs, [[0.75, 0.25]] * 2)
    assert np.allclose(outputs.class_sums["retain"], [[1.5, 0.5], [0.75, 0.25]])


def test_metrics_by_hand() -> None:
    """Class 0 is always the answer: forget 1/2, retain 2/3, unseen 1/2, test 1/2 right.

    All class means are (¾, ¼), so RF-JSD against itself is 0 over 2 classes.
    """
    outputs = _evaluate(_constant(), torch.full((9, 3, 2, 2), 255).to(torch.uint8))
    values, reasons = summarise(outputs, outputs)
    assert reasons == {}
    assert [values[f"{role}_accuracy"] for role in ROLES] == [1 / 2, 2 / 3, 1 / 2, 1 / 2]
    assert values["rf_jsd"] == pytest.approx(0, abs=1e-15)
    assert values["rf_jsd_classes"] == 2


def test_classes_absent_from_the_forget_set_are_left_out_and_counted() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    one_class = Outputs(**{**vars(outputs), "labels": np.zeros(9, dtype=np.int64)})
    values, _ = summarise(one_class, one_class)
    assert values["rf_jsd_classes"] == 1


def test_an_undefined_metric_is_none_with_a_reason() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    roles = np.where(outputs.roles == "test", "unseen", outputs.roles)
    values, reasons = summarise(Outputs(**{**vars(outputs), "roles": roles}), outputs)
    assert values["test_accuracy"] is None
    assert reasons["test_accuracy"] == "the test set is empty"


@pytest.mark.parametrize(
    ("gone", "what"), [(("unseen", "test"), "non-member set"), (("retain",), "retain set")]
)
def test_an_attack_on_a_set_of_one_class_is_none_with_a_reason(
    gone: tuple[str, ...], what: str
) -> None:
    """An attacker who has seen members alone, or strangers alone, can tell nothing."""
    outputs = _evaluate(_constant(), blobs(9, 2))
    roles = np.where(np.isin(outputs.roles, gone), "rest", outputs.roles)
    values, reasons = summarise(Outputs(**{**vars(outputs), "roles": roles}), outputs)
    assert values["mia_accuracy"] is None
    assert what in reasons["mia_accuracy"]
    assert values["forget_accuracy"] is not None


def test_buffers_are_bit_identical_afterwards() -> None:
    model = resnet18_cifar(num_classes=2, width=2).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    _evaluate(model, blobs(9, 2))
    assert len(before) > 0
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_of_several_workers_add_up_to_the_whole(size: int) -> None:
    """Each worker's tensors are recorded, then all workers are run again with their sums."""
    model, pixels = _constant(), blobs(9, 2)
    alone = _evaluate(model, pixels)
    recorded: list[list[Tensor]] = []
    for rank in range(size):
        parts: list[Tensor] = []
        recorded.append(parts)
        _evaluate(model, pixels, Workers(rank, size, sum=_recorder(parts)))
    totals = [sum(column[1:], column[0]) for column in zip(*recorded, strict=True)]
    together = _evaluate(model, pixels, Workers(0, size, sum=lambda _: totals.pop(0)))
    assert np.array_equal(alone.predicted, together.predicted)
    for name in (
        "entropy",
        "loss",
        "margin",
        "forget_probs",
    ):  # smaller batches may round otherwise
        assert np.allclose(getattr(alone, name), getattr(together, name), rtol=1e-12, atol=1e-15)
    for role in ROLES:
        assert np.allclose(alone.class_sums[role], together.class_sums[role], atol=1e-15)


def _recorder(parts: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def record(value: Tensor) -> Tensor:
        parts.append(value.clone())
        return value

    return record


def test_outputs_survive_a_file() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    files = outputs.to_files(TABLE.sample_ids)
    again = Outputs.from_files(files[SAMPLES], files[TENSORS])
    for name, value in vars(outputs).items():
        if name != "class_sums":
            assert np.array_equal(getattr(again, name), value)
    assert again.class_sums.keys() == set(ROLES)
    assert all(np.array_equal(again.class_sums[r], outputs.class_sums[r]) for r in ROLES)
