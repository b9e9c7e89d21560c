"""Parts of `bench compute` whose answers are known without a clock."""

from __future__ import annotations

import pytest
import torch

from lotus_ray.base.errors import JobError
from lotus_ray.base.roles import RETAIN, ROLES
from lotus_ray.bench import gpu, mask, precisions, unlearning
from lotus_ray.bench.compute import measure
from lotus_ray.bench.generated import Sizes, build
from lotus_ray.bench.gpu_work import Scale
from lotus_ray.bench.overhead import seconds_beyond
from lotus_ray.bench.peak import utilisation
from lotus_ray.store.row import OK, Row
from lotus_ray.unlearning.forward_counter import ForwardCounter

TINY = Sizes(
    model="resnet18_cifar",
    options={"width": 2},
    img_size=8,
    classes=3,
    forget=4,
    retain=8,
    unseen=4,
    test=4,
    batch_size=8,
)
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", unlearning.methods())
def test_no_method_goes_forward_more_than_its_definition_asks(name: str) -> None:
    """Counted where images go forward, beside the floor that is derived without running it."""
    bench = unlearning.Bench(build(TINY, CPU).compute_logits())
    assert bench.ratio(name, unlearning.methods()[name]) > 0
    (ratio,) = bench.forward_ratios.values()
    # How many images AMUN attacks depends on what the original gets right.
    assert 0.8 < ratio <= 1 if name == "amun" else ratio == 1


def test_scores_of_unlearning_have_an_upper_limit() -> None:
    measured = unlearning.measure(["finetune"], 1, TINY)
    assert list(measured.scores) == [
        "finetune_time_vs_bare_network",
        "evaluate_time_vs_bare_network",
        "forwards_vs_necessary",
    ]
    assert not any(score.at_least for score in measured.scores.values())
    assert measured.rates.keys() >= {"finetune, s", "finetune, floor, s", "summarise, s"}


def test_a_stage_has_the_samples_that_it_was_asked_for() -> None:
    stage = build(TINY, CPU)
    assert [len(stage.dataset.split(role)) for role in ROLES] == [12, 24, 12, 12]
    with ForwardCounter().counting() as forwards:
        problem = stage.problem(forwards)
    labels = torch.cat([batch.labels for batch in problem.forget])
    assert labels.bincount().tolist() == [4, 4, 4]


def test_samples_may_share_images_of_their_class() -> None:
    """Of 60 samples 7 images are asked for: 6 exist, and sample 6 shows what sample 0 does."""
    pixels = build(Sizes(**{**vars(TINY), "unique": 7}), CPU).dataset.pixels
    assert len(pixels.blocks[0]) == 6  # type: ignore[attr-defined]
    assert (pixels.image(0) == pixels.image(6)).all()  # type: ignore[attr-defined]


def test_bfloat16_rounds_inside_the_network_alone() -> None:
    exact, coarse = (build(TINY, CPU, precision=name) for name in ("fp32", "bf16"))
    batch = next(iter(exact.dataset.split(RETAIN)))
    answers = [stage.original(batch.images) for stage in (exact, coarse)]
    assert answers[1].dtype == torch.float32
    assert 0 < float((answers[0] - answers[1]).abs().max()) < 0.1


def test_both_masks_hold_the_same_weights() -> None:
    """Of 3, 1, 4, 1.5 and 9, 2 in two tensors the three largest are 3, 4 and 9."""
    values = [torch.tensor([[3.0, 1.0], [4.0, 1.5]]), torch.tensor([9.0, 2.0])]
    for way in mask.WAYS.values():
        found = way(values, 3)
        assert [part.tolist() for part in found] == [[[True, False], [True, False]], [True, False]]


def test_the_mask_is_of_as_many_weights_as_vit_b_16_has() -> None:
    assert sum(torch.Size(shape).numel() for shape in mask.vit_shapes()) == 86_567_656


@pytest.mark.bench
def test_masks_are_measured_in_processes_of_their_own() -> None:
    measured = mask.measure(1, blocks=2, width=384)
    assert {name: score.at_least for name, score in measured.scores.items()} == {
        "two_sorts_time_vs_salun_mask": True,
        "salun_mask_memory_vs_two_sorts": False,
    }
    # 4 M weights: two sorts hold at least the order and the ranks, 8 bytes a weight each
    assert measured.rates["two argsorts, MiB"] > 60


def test_what_a_cell_costs_beyond_its_compute() -> None:
    """Two cells took 2 + 1 and 3 + 1 s of 10: 3 s are left over, 1.5 s for each."""
    rows = {
        "a": Row(status=OK, timing={"unlearn_seconds": 2, "evaluate_seconds": 1}),
        "b": Row(status=OK, timing={"unlearn_seconds": 3, "evaluate_seconds": 1}),
    }
    assert seconds_beyond(rows, {"start": 50.0, "cells": 10.0}) == 1.5
    with pytest.raises(RuntimeError, match="LoTUS: diverged"):
        seconds_beyond({"a": Row(status="diverged", method="LoTUS")}, {"cells": 1.0})


def test_a_method_without_a_floor_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(JobError, match="lotuz") as caught:
        measure(1, ["lotuz"], print)
    assert caught.value.nearest == "lotus"


def test_the_gpu_benchmark_runs_anywhere_and_gives_no_ratio_to_an_unknown_peak() -> None:
    scale = Scale(TINY, steps=2, epochs=1, forward_flop=1e6)
    small = precisions.compared(CPU, TINY, epochs=1, seeds=(0, 1))
    assert len(small) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "compared", lambda device: small)
        measured = gpu.measure(1, CPU, scale)
    assert list(measured.scores) == [
        "cache_rate_vs_resident_images",
        "evaluation_seconds",
        "lotus_seconds",
    ]
    assert "the peak of a CPU is unknown" in measured.notes[0]
    assert measured.rates["training, TFLOP/s"] > 0


def test_utilisation_is_a_ratio_to_a_peak_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """395.8 of 989.5 TFLOP/s are 40 %; an H100 of another kind has another peak, and no ratio."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    score = utilisation(395.8e12, torch.device("cuda"), 5).scores["model_flop_utilisation"]
    assert score.value == pytest.approx(0.4)
    assert score.at_least
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 PCIe")
    assert utilisation(395.8e12, torch.device("cuda"), 5).scores == {}


def test_the_largest_difference_is_shown_beside_the_spread_of_its_metric() -> None:
    """Of a the difference is 0.1; of b at most 0.3, and b spreads over 1.0 … 1.5."""
    exact = [{"a": 0.0, "b": 1.0}, {"a": 5.0, "b": 1.5}]
    coarse = [{"a": 0.1, "b": 1.3}, {"a": 5.0, "b": 1.4}]
    difference, spread = precisions.largest_difference(exact, coarse).values()
    assert difference == pytest.approx(0.3)
    assert spread == pytest.approx(0.5)
