"""What every method keeps to. Each check returns what is wrong, or an empty text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from lotus_ray.bench.method_checks.checkpoints import Kept, KeptWithin, Resumed
from lotus_ray.unlearning.checkpoint import PhaseRecord
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import STUDENT, TEACHER, ForwardCounter, count_images
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

TWO_WORKERS = 1e-6  # most that weights of two workers differ, relative to the largest of a tensor
IN_PARTS = 1e-12  # the same, of steps in parts
Fresh = Callable[[], Problem]


def weights_stay(stage: Problem) -> str:
    """Fail where no parameter differs from the original's, or one is not finite."""
    pairs = zip(stage.model.parameters(), stage.original.parameters(), strict=True)
    if all(torch.equal(ours, before) for ours, before in pairs):
        return "no weight of problem.model has changed"
    finite = all(bool(value.isfinite().all()) for value in stage.model.state_dict().values())
    return "" if finite else "a weight is NaN or infinite"


def original_changes(stage: Problem, before: Mapping[str, Tensor]) -> str:
    """Fail where the original, or one of its buffers, is not what it was."""
    now = stage.original.state_dict()
    changed = [key for key, value in before.items() if not torch.equal(value, now[key])]
    if changed:
        return f"problem.original has changed: {changed[0]}"
    return "problem.original is in training mode" if stage.original.training else ""


def still_trains(stage: Problem) -> str:
    """Fail where the model is left in training mode."""
    return "problem.model is left in training mode" if stage.model.training else ""


def weights_differ(found: Problem, expected: Problem, most: float = 0.0) -> str:
    """Fail where weights or buffers of two runs differ.

    Args:
        found: after one run.
        expected: after the other one.
        most: largest difference, relative to the largest of a tensor; 0: bit for bit.
    """
    return states_differ(found.model.state_dict(), expected.model.state_dict(), most)


def states_differ(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], most: float = 0.0
) -> str:
    """Fail where two states differ: see `weights_differ`."""
    for key, value in expected.items():
        if most == 0.0:
            if not torch.equal(found[key], value):
                return f"{key} differs"
            continue
        apart, largest = (found[key] - value).abs().max(), value.abs().max()
        if not float(apart) <= most * float(largest):
            return f"{key} differs by {float(apart):.1e}, and its largest value is {largest:.1e}"
    return ""


def records_differ(found: Sequence[PhaseRecord], expected: Sequence[PhaseRecord]) -> str:
    """Fail where two runs have other phases, losses or notes."""
    if len(found) != len(expected):
        return f"it has {len(found)} phases, and had {len(expected)}"
    pairs = enumerate(zip(found, expected, strict=True))
    apart = next((index for index, (ours, theirs) in pairs if ours != theirs), None)
    return "" if apart is None else f"phase {apart} has other losses or notes"


def seed_does_not_decide(method: Method, fresh: Fresh, first: Problem) -> str:
    """Fail where a second run gives other weights: something else than the seed decides.

    Args:
        method: the method.
        fresh: returns the problem anew.
        first: after the first run.
    """
    torch.manual_seed(99)  # the global generator plays no part
    stage = fresh()
    unlearn(method, stage)
    if differs := weights_differ(stage, first):
        return f"a second run gives other weights: {differs}; draw by problem.seed alone"
    return ""


def restart_differs(method: Method, fresh: Fresh) -> str:
    """Fail where a run that goes on after a phase does not end like an undisturbed one.

    Bit for bit, records too; what is left of the run trains no phase again.
    """
    whole, kept = fresh(), Kept()
    records = unlearn(method, whole)
    if not records:
        return "it has no phase"
    if differs := records_differ(unlearn(method, fresh(), kept), records):
        return f"a run that writes checkpoints differs: {differs}"
    if len(kept.contents) != len(records):
        return f"{len(kept.contents)} checkpoints of {len(records)} phases"
    for phases, content in enumerate(kept.contents, 1):
        stage, resumed = fresh(), Resumed(content)
        differs = records_differ(unlearn(method, stage, resumed), records)
        differs = differs or weights_differ(stage, whole)
        if differs:
            return f"a run that goes on after {phases} of {len(records)} phases differs: {differs}"
        if resumed.offered != len(records) - phases:
            return f"a run that goes on after {phases} phases trains some of them again"
    return ""


def restart_within_differs(method: Method, fresh: Fresh, kept: KeptWithin, most: int = 2) -> str:
    """Fail where a run that goes on within a phase does not end like an undisturbed one.

    Args:
        method: the method.
        fresh: returns the problem anew.
        kept: gets the checkpoints within phases.
        most: from so many of the checkpoints within phases, at least.
    """
    whole, plain = fresh(), fresh()
    records = unlearn(method, plain)
    differs = records_differ(unlearn(method, whole, kept), records)
    if differs := differs or weights_differ(whole, plain):
        return f"a run that writes checkpoints differs: {differs}"
    for content in kept.contents[-2 :: -max(len(kept.contents) // most, 1)]:
        stage = fresh()
        differs = records_differ(unlearn(method, stage, Resumed(content)), records)
        if differs := differs or weights_differ(stage, whole):
            return f"a run that goes on within a phase differs: {differs}"
    return ""


@dataclass
class Counted:
    """The images that went through networks, and those that the counter missed."""

    counter: ForwardCounter = field(default_factory=ForwardCounter)
    all_images: int = 0

    @property
    def missed(self) -> str:
        """Fail where images went through a network that is not watched."""
        known = self.counter.images[STUDENT] + self.counter.images[TEACHER]
        if self.all_images > known:
            return (
                f"{self.all_images - known} of {self.all_images} images go through networks that "
                "are not counted: use problem.model, problem.original_logits, random_logits"
            )
        return "" if self.counter.images[STUDENT] else "no image goes through problem.model"


@contextmanager
def counting_all(kind: type[nn.Module]) -> Iterator[Counted]:
    """Count the images that go through every network of a kind, watched or not."""
    counted = Counted()

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if type(module) is kind:
            counted.all_images += count_images(inputs[0])

    handle = register_module_forward_pre_hook(count)
    try:
        with counted.counter.counting():
            yield counted
    finally:
        handle.remove()
