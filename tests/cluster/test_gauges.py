"""What the gauges show of a run. Ray's own gauge is replaced, as it keeps no values to read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from lotus_ray.cluster import gauges as module
from lotus_ray.cluster.gauges import GAUGES, TAGS, Gauges
from lotus_ray.unlearning.forward_counter import BACKWARDS
from lotus_ray.unlearning.position import Position

Shown = dict[str, float]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Return the last value of each gauge."""
    values: Shown = {}

    class Gauge:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name, self.tag_keys = name, tag_keys

        def set(self, value: float, tags: dict[str, Any]) -> None:
            assert tags.keys() == set(self.tag_keys)
            values[self.name] = value

    moments = iter((0.0, 1.0, 3.0, 4.0))
    monkeypatch.setattr(module, "Gauge", Gauge)
    monkeypatch.setattr("lotus_ray.cluster.gauges.time.monotonic", lambda: next(moments))
    return values


def test_gauges_follow_a_run_and_begin_again_with_the_next(shown: Shown) -> None:
    """64 images in 1 s, then 32 in 2 s. A share of .25 on one of two workers is a loss of .5."""
    gauges, position = Gauges("2"), Position()
    tags = {"cell": "ab12", "method": "LoTUS", "group": "digits"}
    position.images[BACKWARDS] = 64
    position.move(1, 2, torch.tensor(0.25))
    gauges.show(position, 2, **tags)
    assert shown == {
        "lotus_ray_phase": 1,
        "lotus_ray_step": 2,
        "lotus_ray_loss": 0.5,
        "lotus_ray_images_per_second": 64,
    }
    position.images[BACKWARDS] = 96
    gauges.show(position, 2, **tags)
    assert shown["lotus_ray_images_per_second"] == 16
    position.begin(position.images.__class__())
    gauges.show(position, 2, **tags)
    assert shown["lotus_ray_phase"] == shown["lotus_ray_step"] == 0
    assert shown["lotus_ray_images_per_second"] == 16  # of two cells, no speed follows


def test_ray_accepts_the_gauges() -> None:
    gauges = Gauges("1")
    assert {gauge.info["name"] for gauge in gauges._gauges.values()} == {
        f"lotus_ray_{name}" for name in GAUGES
    }
    assert {gauge.info["tag_keys"] for gauge in gauges._gauges.values()} == {TAGS}
    gauges.show(Position(), 1, cell="c", method="m", group="g")
