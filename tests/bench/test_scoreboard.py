from __future__ import annotations

import pytest

from lotus_ray.bench.photographs import write_photographs
from lotus_ray.bench.scoreboard import Figure, medians, to_plain, to_table

FIGURES = {
    "C1": Figure("stage ÷ loop", 0.9, 0.85, at_least=True, n=5),
    "C2": Figure("ours ÷ theirs", 1.9, 2.2, at_least=True, n=5),
    "C5": Figure("first batch", 1.0, 1.0, at_least=False, n=1),
}


def test_a_figure_is_met_from_its_own_side() -> None:
    assert [figure.ok for figure in FIGURES.values()] == [True, False, True]
    assert not Figure("", 1.01, 1.0, at_least=False, n=1).ok


def test_medians_leave_the_dataset_up_out_and_take_turns() -> None:
    """Of 100, 1, 5, 3 the first is dropped: the median of 1, 5, 3 is 3."""
    values = {"a": [100.0, 1.0, 5.0, 3.0], "b": [0.0, 2.0, 2.0, 4.0]}
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return values[name].pop(0)

    found = medians(3, a=lambda: measure("a"), b=lambda: measure("b"))
    assert found == {"a": 3.0, "b": 2.0}
    assert order == ["a", "b"] * 4


def test_json_has_an_entry_for_each_figure_and_the_machine() -> None:
    plain = to_plain(FIGURES, {"loop": 500.0})
    assert plain["C2"] == {"value": 1.9, "target": 2.2, "ok": False, "n": 5}
    assert plain["machine"]["cpus"] >= 1
    assert plain["machine"]["device"]
    assert plain["rates"] == {"loop": 500.0}


def test_the_table_says_what_is_missed() -> None:
    lines = to_table(FIGURES, {"loop": 500.0}).splitlines()
    assert "met" in lines[1] and "MISSED" in lines[2]  # noqa: PT018
    assert "≥  2.20" in lines[2]
    assert "≤  1.00" in lines[3]
    assert "500  loop" in lines[4]


@pytest.mark.parametrize("count", [8])
def test_photographs_cost_what_photographs_cost(tmp_path, count: int) -> None:  # type: ignore[no-untyped-def]
    """About 110 KB each, no two alike."""
    write_photographs(tmp_path, count)
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("*.jpg"))]
    assert len(set(files)) == count
    assert 80_000 < sum(len(content) for content in files) / count < 140_000
