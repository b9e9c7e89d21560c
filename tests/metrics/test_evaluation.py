"""One pass: outputs by hand, buffers untouched, the same for any number of workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lotus_ray.base.roles import ROLES
from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.outputs import SAMPLES, TENSORS, Outputs
from lotus_ray.metrics.summary import summarise
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.report.columns import METRICS
from lotus_ray.unlearning.contract import Workers
from tests.toy import Linear, blobs, make_dataset, make_roles

SCORES = ("entropy", "loss", "confidence", "margin")
TABLE = make_roles("ffrrruutt", [0, 1, 0, 1, 0, 0, 1, 1, 0], 2)


def _evaluate(model: torch.nn.Module, pixels: Tensor, workers: Workers | None = None) -> Outputs:
    dataset = make_dataset(pixels, TABLE, workers)
    return evaluate(
        model,
        {role: dataset.split(role) for role in ROLES},
        roles=np.array(ROLES)[TABLE.roles],
        labels=TABLE.labels,
        num_classes=2,
        device=dataset.device,
        workers=dataset.workers,
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
    label 1: loss ln 4, margin −ln 3. The largest output is ¾ in either case. Class sums of retain
    (labels 0, 1, 0): 2p in row 0, p in 1.
    """
    outputs = _evaluate(_constant(), torch.full((9, 3, 2, 2), 255).to(torch.uint8))
    zero = TABLE.labels == 0
    assert outputs.predicted.tolist() == [0] * 9
    assert np.allclose(outputs.entropy, 0.5623351446188083, atol=1e-14)
    assert np.allclose(outputs.loss, np.where(zero, math.log(4 / 3), math.log(4)), atol=1e-14)
    assert np.allclose(outputs.margin, np.where(zero, math.log(3), -math.log(3)), atol=1e-13)
    assert outputs.confidence is not None
    assert np.allclose(outputs.confidence, 0.75, atol=1e-14)
    assert np.allclose(outputs.forget_probs, [[0.75, 0.25]] * 2)
    assert np.allclose(outputs.class_sums["retain"], [[1.5, 0.5], [0.75, 0.25]])


def test_metrics_by_hand() -> None:
    """Class 0 is always the answer: forget 1/2, retain 2/3, unseen 1/2, test 1/2 right.

    All class means are (¾, ¼), so RF-JSD against itself is 0 over 2 classes. Half of the forget
    set and half of the non-members have label 0, so a score by label is as often above as below,
    and one by output ties: each AUC is ½. A random network that answers (¼, ¾): JS to (¾, ¼) is
    ¾·ln(3/2) + ¼·ln(1/2) = 0.1308120359411370, and ZRF is 1 less that.
    """
    outputs = _evaluate(_constant(), torch.full((9, 3, 2, 2), 255).to(torch.uint8))
    original = replace(outputs, random_forget_probs=np.array([[0.25, 0.75]] * 2))
    summary = summarise(outputs, original)
    values = summary.values
    rates = {f"mia_tpr_{r}_{s}" for r in ("1pct", "01pct") for s in SCORES}
    assert summary.undefined.keys() == rates
    assert summary.undefined["mia_tpr_1pct_loss"] == "1 % of 4 non-members is less than one"
    assert summary.undefined["mia_tpr_01pct_loss"] == "0.1 % of 4 non-members is less than one"
    assert [values[f"mia_auc_{score}"] for score in SCORES] == [0.5] * 4
    assert summary.intervals.keys() == {f"mia_auc_{score}" for score in SCORES}
    assert values["zrf"] == pytest.approx(1 - 0.1308120359411370, abs=1e-14)
    assert [values[f"{role}_accuracy"] for role in ROLES] == [1 / 2, 2 / 3, 1 / 2, 1 / 2]
    assert values["rf_jsd"] == pytest.approx(0, abs=1e-15)
    assert values["rf_jsd_classes"] == 2


def test_classes_absent_from_the_forget_set_are_left_out_and_counted() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    one_class = replace(outputs, labels=np.zeros(9, dtype=np.int64))
    assert summarise(one_class, one_class).values["rf_jsd_classes"] == 1


def test_an_undefined_metric_is_none_with_a_reason() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    roles = np.where(outputs.roles == "test", "unseen", outputs.roles)
    summary = summarise(replace(outputs, roles=roles), outputs)
    assert summary.values["test_accuracy"] is None
    assert summary.undefined["test_accuracy"] == "the test set is empty"


def test_an_attack_is_on_the_forget_set_against_unseen_and_test_by_each_score() -> None:
    """Forget 5 and 7 against unseen 6, 4 and test 6, 8 of a score that rises with membership.

    5 is above one of four, 7 above three of four: AUC ½. With 9 for 7, above all four: 5/8. An
    entropy and a loss of the negative numbers say the same; retain samples play no part.
    """
    outputs = _evaluate(_constant(), blobs(9, 2))
    scores = np.array([5, 7, 99, 99, 99, 6, 4, 6, 8], dtype=np.float64)
    for highest, auc in ((7, 1 / 2), (9, 5 / 8)):
        scores[1] = highest
        for name in SCORES:
            sign = -1 if name in ("entropy", "loss") else 1
            changed = replace(outputs, **{name: sign * scores})
            assert summarise(changed, outputs).values[f"mia_auc_{name}"] == auc


def test_what_needs_the_original_is_undefined_without_it() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    summary = summarise(outputs, None)
    needs = {"rf_jsd", "rf_jsd_compat", "rf_jsd_classes", "zrf"}
    assert {n for n, why in summary.undefined.items() if "its original" in why} == needs
    assert all(summary.values[name] is None for name in needs)
    assert summary.values["forget_accuracy"] is not None


def test_a_reports_columns_and_a_rows_figures_have_the_same_names() -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    shown = {metric.figure for metric in METRICS.values()}
    attacks = {name for name in shown if name.startswith(("mia_auc", "mia_tpr"))}
    assert len(attacks) == 12
    assert attacks | {"zrf"} <= summarise(outputs, outputs).values.keys()


@pytest.mark.parametrize(
    ("gone", "what"), [(("unseen", "test"), "non-member set"), (("retain",), "retain set")]
)
def test_an_attack_on_a_set_of_one_class_is_none_with_a_reason(
    gone: tuple[str, ...], what: str
) -> None:
    """An attacker who has seen members alone, or strangers alone, can tell nothing."""
    outputs = _evaluate(_constant(), blobs(9, 2))
    roles = np.where(np.isin(outputs.roles, gone), "rest", outputs.roles)
    summary = summarise(replace(outputs, roles=roles), outputs)
    assert summary.values["mia_accuracy"] is None
    assert what in summary.undefined["mia_accuracy"]
    assert summary.values["forget_accuracy"] is not None


@pytest.mark.parametrize(
    ("gone", "what"), [(("unseen", "test"), "non-member set"), (("forget",), "forget set")]
)
def test_a_threshold_on_a_set_of_one_class_is_none_with_a_reason(
    gone: tuple[str, ...], what: str
) -> None:
    outputs = _evaluate(_constant(), blobs(9, 2))
    roles = np.where(np.isin(outputs.roles, gone), "rest", outputs.roles)
    summary = summarise(replace(outputs, roles=roles), outputs)
    for score in SCORES:
        assert summary.values[f"mia_auc_{score}"] is None
        assert what in summary.undefined[f"mia_auc_{score}"]
    assert summary.intervals == {}


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
        "confidence",
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
    random = np.array([[0.3, 0.7], [0.1, 0.9]])
    outputs = replace(_evaluate(_constant(), blobs(9, 2)), random_forget_probs=random)
    files = outputs.to_files(TABLE.sample_ids)
    again = Outputs.from_files(files[SAMPLES], files[TENSORS])
    for name, value in vars(outputs).items():
        if name != "class_sums":
            assert np.array_equal(getattr(again, name), value)
    assert again.class_sums.keys() == set(ROLES)
    assert all(np.array_equal(again.class_sums[r], outputs.class_sums[r]) for r in ROLES)
