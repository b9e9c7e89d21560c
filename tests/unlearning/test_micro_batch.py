"""Steps in parts: the weights of the whole, halves where memory runs out, and what cannot split."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import JobError, LotusRayError, MethodError
from lotus_ray.bench.method_checks.checks import IN_PARTS, states_differ
from lotus_ray.bench.method_checks.problems import Plain, Small
from lotus_ray.bench.method_checks.problems import problem as problem_of
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.cf_k import CfK
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.salun import Salun
from lotus_ray.unlearning.methods.sfron import Sfron
from lotus_ray.unlearning.micro_batch import MicroBatch
from lotus_ray.unlearning.problem import Problem
from tests.unlearning.methods.test_contract import SETTINGS


def dropping() -> nn.Module:
    """Return the network with dropout."""
    return Plain(dropout=0.5)


def short(name: str) -> Method:
    """Build a method with two epochs at most."""
    method = METHODS[name](**SETTINGS[name])
    if isinstance(method, Salun):
        return replace(method, inner=replace(method.inner, epochs=2))  # type: ignore[call-arg]
    return replace(method, epochs=2) if getattr(method, "epochs", 0) > 2 else method  # type: ignore[call-arg]


def weights_after(method: Method, micro_batch: MicroBatch, **of_problem: Any) -> dict[str, Tensor]:
    """Unlearn in parts; return the state of the model."""
    stage = problem_of(**{"network": Plain, **of_problem})
    stage.micro_batch = micro_batch
    unlearn(method, stage)
    return stage.model.state_dict()


@cache
def whole(name: str) -> dict[str, Tensor]:
    """Return the weights of a method whose steps run whole."""
    return weights_after(short(name), MicroBatch())


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Fail where a weight differs by more than rounding."""
    assert not states_differ(found, expected, IN_PARTS)


@pytest.mark.parametrize("most", [16, 8, 4])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "sfron"])
def test_parts_give_the_weights_of_the_whole(name: str, most: int) -> None:
    """One, two and four parts of batches of 16."""
    parts = MicroBatch(most, is_auto=False)
    check_equal(weights_after(short(name), parts), whole(name))
    pairs = name in ("neggrad_plus", "unsir")  # 32 images
    assert parts.smallest == (most if most < 16 or pairs else None)


def out_of_memory_above(stage: Problem, most: int) -> list[int]:
    """Let the last layer of a problem's model run out of memory; return the images of each try."""
    tries: list[int] = []

    def check(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if torch.is_grad_enabled():
            tries.append(len(inputs[0]))
            if len(inputs[0]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")

    stage.model.get_submodule("fc").register_forward_pre_hook(check)
    return tries


def test_parts_are_halved_until_they_fit() -> None:
    """Batches of 16 images, and a memory for 5: one try with 16, one with 8, then parts of 4."""
    stage = problem_of(network=Plain)
    tries = out_of_memory_above(stage, 5)
    unlearn(short("finetune"), stage)
    assert tries[:2] == [16, 8]
    assert set(tries[2:]) == {4}
    assert stage.micro_batch.smallest == 4
    check_equal(stage.model.state_dict(), whole("finetune"))


def test_a_gradient_between_phases_is_halved_too() -> None:
    """SalUn's mask is made of gradients in eval mode."""
    stage = problem_of(network=Plain)
    tries = out_of_memory_above(stage, 8)
    unlearn(short("salun"), stage)
    assert tries[:3] == [12, 6, 6]
    check_equal(stage.model.state_dict(), whole("salun"))


@pytest.mark.parametrize("name", ["amun", "boundary_shrink"])
def test_an_attack_is_halved_too(name: str) -> None:
    """The network that is attacked is the frozen original."""
    stage = problem_of(network=Plain)
    tried: list[int] = []

    def check(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if torch.is_grad_enabled():
            tried.append(len(inputs[0]))
            if len(inputs[0]) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")

    stage.original.get_submodule("fc").register_forward_pre_hook(check)
    unlearn(short(name), stage)
    assert max(tried) > 4
    check_equal(stage.model.state_dict(), whole(name))


def test_random_layers_draw_the_same_numbers_in_each_try() -> None:
    """After a try that failed, dropout is that of a run which began with these parts."""
    stage = problem_of(network=dropping)
    out_of_memory_above(stage, 8)
    unlearn(short("finetune"), stage)
    begun = weights_after(short("finetune"), MicroBatch(8), network=dropping)
    whole_ = weights_after(short("finetune"), MicroBatch(), network=dropping)
    for key, value in stage.model.state_dict().items():
        assert torch.equal(value, begun[key])
    assert not torch.equal(begun["fc.weight"], whole_["fc.weight"])


def test_memory_that_is_too_small_for_one_image_is_an_error() -> None:
    stage = problem_of(network=Plain)
    tries = out_of_memory_above(stage, 0)
    with pytest.raises(torch.OutOfMemoryError):
        unlearn(short("finetune"), stage)
    assert tries == [16, 8, 4, 2, 1]


@pytest.mark.parametrize(
    ("micro_batch", "workers", "error"),
    [
        (MicroBatch(16, is_auto=False), 1, torch.OutOfMemoryError("CUDA out of memory")),
        (MicroBatch(), 2, torch.OutOfMemoryError("CUDA out of memory")),
        (MicroBatch(), 1, RuntimeError("shapes do not agree")),
    ],
)
def test_what_is_not_halved(micro_batch: MicroBatch, workers: int, error: Exception) -> None:
    """A number that a job gives, several workers, and other errors."""
    calls: list[int] = []

    def attempt(parts: Any) -> None:
        calls.append(len(parts))
        raise error

    with pytest.raises(type(error)):
        micro_batch.run(range(16), lambda whole, most: [whole], attempt, workers=workers)
    assert calls == [1]


def refused(method: Method, network: type[nn.Module]) -> LotusRayError:
    """Return the error of a method that is asked for parts of 4 images."""
    with pytest.raises(LotusRayError) as raised:
        weights_after(method, MicroBatch(4, is_auto=False), network=network)
    assert raised.value.where == "resources.micro_batch"
    return raised.value


def test_batch_normalisation_that_trains_is_refused() -> None:
    error = refused(short("finetune"), Small)
    assert isinstance(error, JobError)
    assert "the layer bn1 trains" in error.what
    assert "smaller batch_size" in error.next_command


def test_a_loss_that_mixes_images_is_refused() -> None:
    sfron = Sfron(steps=2)
    for method in (sfron, Salun(inner=sfron)):
        error = refused(method, Plain)
        assert isinstance(error, MethodError)
        assert "SFRon" in error.what


def test_auto_leaves_what_cannot_split_whole() -> None:
    """Even after memory ran out: the error goes up after one try."""
    parts = MicroBatch(4)
    found = weights_after(short("finetune"), parts, network=Small)
    expected = weights_after(short("finetune"), MicroBatch(), network=Small)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert parts.smallest is None
    stage = problem_of(network=Small)
    tries = out_of_memory_above(stage, 8)
    with pytest.raises(torch.OutOfMemoryError):
        unlearn(short("finetune"), stage)
    assert tries == [16]


def test_batch_normalisation_that_is_frozen_can_split() -> None:
    """CF-k with the head alone leaves all norms in eval mode, and JiT the whole network."""
    for method in (CfK(k=1, epochs=1), short("jit")):
        found = weights_after(method, MicroBatch(4, is_auto=False), network=Small)
        check_equal(found, weights_after(method, MicroBatch(), network=Small))


class Box:
    """A tensor that autograd keeps for a backward."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def peak_saved_bytes(most: int | None) -> int:
    """Return the most bytes that a step of 16 images keeps for its backward at one time."""
    live, peak = 0, 0

    def pack(value: Tensor) -> Box:
        nonlocal live, peak
        box, size = Box(value), value.numel() * value.itemsize
        if value.untyped_storage().data_ptr() in weights:
            return box
        live += size
        peak = max(peak, live)

        def free() -> None:
            nonlocal live
            live -= size

        weakref.finalize(box, free)
        return box

    stage = problem_of(network=Plain)
    stage.micro_batch = MicroBatch(most)
    weights = {value.untyped_storage().data_ptr() for value in stage.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.value):
        unlearn(Lotus(epochs=1), stage)
    return peak


def test_parts_need_less_memory() -> None:
    """Two parts hold half of what the whole holds, and four a quarter."""
    in_one, in_two, in_four = (peak_saved_bytes(most) for most in (None, 8, 4))
    print(f"saved bytes at the peak of a step: {in_one}, in 2 parts {in_two}, in 4 {in_four}")
    assert in_two <= 0.55 * in_one
    assert in_four <= 0.32 * in_one
    assert in_one - in_two == 2 * (in_two - in_four)  # but for what does not depend on images
