"""What every test run does."""

from __future__ import annotations

import pytest

ASKED_FOR = ("memory", "faults")  # markers of what takes minutes: left out unless named by -m


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for by its marker."""
    left_out = [name for name in ASKED_FOR if name not in config.option.markexpr]
    slow = [item for item in items if any(map(item.get_closest_marker, left_out))]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)
