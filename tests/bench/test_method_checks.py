"""check-method: the example of the documentation passes, and each fault is noticed."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lotus_ray.base import plugins
from lotus_ray.bench.method_checks import run
from lotus_ray.bench.method_checks.two_workers import RESULT
from lotus_ray.cli.main import main
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "my-method.md"


@pytest.mark.parametrize(
    "workers",
    [1, pytest.param(2, marks=pytest.mark.models)],  # two processes import torch
)
def test_the_example_of_the_documentation_passes(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workers == 1:
        monkeypatch.setattr(run, "_two_differ", lambda method, imports: "")
    source = re.findall(r"```python [^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    assert len(source.splitlines()) <= 30
    file = tmp_path / "push.py"
    file.write_text(source)
    arguments = ["check-method", "push", "--import", str(file), "--set", "lr=0.02"]
    ended = CliRunner().invoke(main, arguments)
    plugins.set_offers((), ())
    assert "push: 11 of 11 checks pass" in ended.output
    assert "epochs=2, lr=0.02" in ended.output
    assert "source       this page." in ended.output
    assert ended.exit_code == 0


@dataclass(frozen=True)
class Faulty(Method):
    """Fine-tunes, with one fault."""

    name: ClassVar[str] = "faulty"
    label: ClassVar[str] = "Faulty"
    fault: ClassVar[str] = ""

    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.01)
        seen = 0

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            nonlocal seen
            seen += 1
            losses = cross_entropy(model(batch.images), batch.labels, reduction="none")
            if self.fault == "a mean of its own":
                return losses.mean()
            if self.fault == "a count of its own":
                return batch.mean(losses) * seen
            if self.fault == "a random number":
                return batch.mean(losses) * random.random()
            if self.fault == "another network":
                with torch.no_grad():
                    copied(batch.images)
            return batch.mean(losses) * (self.fault != "nothing")

        if self.fault == "the original":
            with torch.no_grad():
                next(problem.original.parameters()).add_(0.1)
        copied = type(problem.model)()  # as a teacher that nobody counts
        copied.load_state_dict(copy.deepcopy(problem.model.state_dict()))
        copied.to(problem.pixel_range[0].dtype)
        for epoch in range(2):
            yield Phase(problem.retain.shuffled(16, "faulty", epoch), loss, optimizer)
        if self.fault == "an error":
            raise KeyError("gamma")


FAULTS = {
    "nothing": ("weights change, and are finite", "no weight of problem.model has changed"),
    "the original": ("the original does not change", "problem.original has changed"),
    "another network": ("every forward is counted", "are not counted"),
    "a random number": ("the seed decides", "draw by problem.seed alone"),
    "a count of its own": ("a restart after any phase gives equal weights", "differs"),
    "a mean of its own": ("steps in parts give the weights of whole ones", "see Batch.mean"),
    "an error": ("it runs to its end", f"KeyError: 'gamma' ({__file__}:"),
    "": ("", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "fault", fault)
    monkeypatch.setattr(run, "_two_differ", lambda method, imports: "")
    monkeypatch.setattr(run, "_not_described", lambda method: "")
    results, sheet = run.check_method(Faulty())
    failed = {result.check: result.reason for result in results if not result.passes}
    check, reason = FAULTS[fault]
    assert (check in failed) == bool(fault)
    assert reason in failed.get(check, "")
    assert (sheet is None) == (fault == "an error")
    if not fault:
        assert not failed
        assert sheet is not None
        assert (sheet.steps, sheet.forwards_per_step, sheet.backwards_per_step) == (6, 16, 16)


def test_a_value_of_another_type_has_the_default_beside_it() -> None:
    ended = CliRunner().invoke(main, ["check-method", "finetune", "--set", "lr=abc"])
    assert ended.exit_code == 2
    assert "error: finetune: Input should be a valid number" in ended.output
    assert "where: --set lr\n  nearest: lr=0.001, the default" in ended.output


def test_two_workers_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wrote the weights of another run than this one."""

    def other(description: dict[str, Any], imports: object, folder: str) -> None:
        stage = run._fresh()
        torch.save((stage.model.state_dict(), [[0.5]]), Path(folder, RESULT))

    monkeypatch.setattr(run, "unlearn_with_two", other)
    monkeypatch.setattr(run, "describe", lambda method: {})
    assert "other numbers of phases" in run._two_differ(Faulty(), ())
