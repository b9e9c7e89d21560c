"""The sheet of conformance: it counts what methods do, and notices what they should not do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from lotus_ray.bench import conformance, floors
from lotus_ray.bench.conformance import Conformance, check, deviation_of
from lotus_ray.bench.unlearning import methods
from lotus_ray.cli.main import main
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.problem import Problem


@pytest.fixture(scope="module")
def sheet() -> dict[str, Conformance]:
    return {line.name: line for line in check()}


def test_every_method_that_unlearns_has_a_line(sheet: dict[str, Conformance]) -> None:
    assert [*sheet] == [name for name in METHODS if name not in ("original", "gold")]


@pytest.mark.parametrize("name", methods())
def test_a_method_takes_the_passes_that_it_needs_and_moves_weights(
    name: str, sheet: dict[str, Conformance]
) -> None:
    line = sheet[name]
    if name == "amun":  # how many images it attacks depends on what the original gets right
        assert line.forwards < line.forwards_needed
    else:
        assert line.forwards == line.forwards_needed
        assert line.backwards == line.backwards_needed
    assert line.weights_moved > 0
    assert line.relative_distance > 0
    assert line.is_met


def test_steps_of_finetuning_are_those_of_its_epochs(sheet: dict[str, Conformance]) -> None:
    """48 retain images in batches of 16, twice."""
    assert sheet["finetune"].steps == 6
    assert sheet["finetune"].backwards == 96


class Wasteful(Finetune):
    """Goes forward once more for each batch."""

    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        for phase in super().phases(problem):

            def loss(model: Any, batch: Any, phase: Phase[Any] = phase) -> Any:
                model(batch.images)
                return phase.loss(model, batch)

            yield replace(phase, loss=loss)


class Idle(Finetune):
    """Trains nothing."""

    def phases(self, problem: Problem) -> Iterator[Phase[Any]]:
        yield from ()


@pytest.mark.parametrize("method", [Wasteful, Idle])
def test_a_method_that_does_more_or_nothing_is_noticed(
    method: type[Finetune], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "methods", lambda epochs: {"finetune": method(epochs=epochs)})
    monkeypatch.setitem(floors.NEEDED, method, floors.NEEDED[Finetune])
    (line,) = check()
    assert not line.is_met
    result = CliRunner().invoke(main, ["list", "methods", "--check"])
    assert result.exit_code == 4
    assert result.stdout.splitlines()[2].startswith("finetune ")


def test_the_command_prints_a_line_for_each_method(
    sheet: dict[str, Conformance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "check", lambda: sheet.values())
    text = CliRunner().invoke(main, ["list", "methods", "--check"]).stdout
    assert [line.split()[0] for line in text.splitlines()[2 : 2 + len(sheet)]] == [*sheet]
    lines = json.loads(CliRunner().invoke(main, ["list", "methods", "--check", "--json"]).stdout)
    assert [line["name"] for line in lines] == [*sheet]
    assert lines[0]["relative_distance"] == sheet["finetune"].relative_distance


def test_check_is_for_methods() -> None:
    result = CliRunner().invoke(main, ["list", "models", "--check"])
    assert result.exit_code == 2
    assert "lotus-ray list methods --check" in result.stderr


def test_deviations_come_from_docstrings() -> None:
    assert deviation_of(Finetune) == "none."
    assert "\n" not in deviation_of(METHODS["unsir"])
    assert all(deviation_of(type(method)) for method in methods().values())
