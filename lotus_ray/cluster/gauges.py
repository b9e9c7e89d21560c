"""Gauges of what a place does, for Ray's dashboard and for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ray.util.metrics import Gauge

from lotus_ray.unlearning.forward_counter import BACKWARDS
from lotus_ray.unlearning.position import Position

TAGS = ("place", "cell", "method", "group")
GAUGES = {
    "phase": "Phase of the cell's method that is trained, from 1",
    "step": "Steps of the phase that are done",
    "loss": "Loss of the last step, of the first worker's images",
    "images_per_second": "Images of the first worker that went through forward and backward",
}


class Gauges:
    """Shows where a place's cell is. With several workers, each value is of the first one."""

    def __init__(self, place: str) -> None:
        """Make the gauges.

        Args:
            place: its name.
        """
        self._place = place
        self._gauges = {
            name: Gauge(f"lotus_ray_{name}", description=text, tag_keys=TAGS)
            for name, text in GAUGES.items()
        }
        self._before = (0, time.monotonic())  # images, and when

    def show(self, position: Position, workers: int, **tags: str) -> None:
        """Show where the cell is now.

        Args:
            position: of the cell.
            workers: of the place.
            tags: the values of TAGS, without the place.
        """
        images, share, now = position.images[BACKWARDS], position.share, time.monotonic()
        before, then = self._before
        self._before = (images, now)
        values = {"phase": position.phase, "step": position.steps}
        self._set(values, tags)
        if share is not None:
            self._set({"loss": float(share) * workers}, tags)
        if images >= before:  # else another cell has begun
            self._set({"images_per_second": (images - before) / max(now - then, 1e-9)}, tags)

    def _set(self, values: Mapping[str, float], tags: dict[str, str]) -> None:
        for name, value in values.items():
            self._gauges[name].set(value, {**tags, "place": self._place})
