"""What every test run does."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes to measure, unless it is asked for by its marker."""
    if "memory" in config.option.markexpr:
        return
    measured = [item for item in items if item.get_closest_marker("memory")]
    items[:] = [item for item in items if item not in measured]
    config.hook.pytest_deselected(items=measured)
