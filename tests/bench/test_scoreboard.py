from __future__ import annotations

import pytest

from lotus_ray.bench.photographs import write_photographs
from lotus_ray.bench.scoreboard import Measurements, Score, old_keys_note, to_json, to_table
from lotus_ray.bench.timing import medians

MEASURED = Measurements(
    {
        "stage_vs_loop": Score("C1", "stage ÷ loop", 0.9, 0.85, at_least=True, n=5),
        "rate_vs_loader": Score("C2", "ours ÷ theirs", 1.9, 2.2, at_least=True, n=5),
        "first_batch": Score("C5", "first batch", 1.0, 1.0, at_least=False, n=1),
    },
    {"loop": 500.0},
)


def test_a_target_is_a_lower_or_an_upper_limit() -> None:
    assert [score.ok for score in MEASURED.scores.values()] == [True, False, True]
    assert not Score("", "", 1.01, 1.0, at_least=False, n=1).ok


def test_medians_leave_the_warm_up_out_and_take_turns() -> None:
    """Of 100, 1, 5, 3 the first is dropped: the median of 1, 5, 3 is 3."""
    values = {"a": [100.0, 1.0, 5.0, 3.0], "b": [0.0, 2.0, 2.0, 4.0]}
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return values[name].pop(0)

    found = medians(3, a=lambda: measure("a"), b=lambda: measure("b"))
    assert found == {"a": 3.0, "b": 2.0}
    assert order == ["a", "b"] * 4


def test_json_has_each_score_by_name_and_by_its_old_key_and_the_machine() -> None:
    content = to_json(MEASURED)
    expected = {"id": "C2", "value": 1.9, "target": 2.2, "ok": False, "n": 5}
    assert content["rate_vs_loader"] == content["C2"] == expected
    assert "C2 is rate_vs_loader" in old_keys_note(MEASURED)
    assert content["machine"]["cpus"] >= 1
    assert content["machine"]["device"]
    assert content["rates"] == {"loop": 500.0}


def test_the_table_says_what_is_missed() -> None:
    lines = to_table(MEASURED).splitlines()
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
