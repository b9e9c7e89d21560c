"""Stores that tests of the report share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lotus_ray.store.results import Store
from tests.report.made_up import three_seeds


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    opened = Store.open(str(tmp_path / "store"))
    opened.check_writable()
    return opened


@pytest.fixture
def full(store: Store) -> Store:
    """The same with rows of several methods and three seeds."""
    three_seeds(store)
    return store
