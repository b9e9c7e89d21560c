"""What every test run does."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud import Google, Proxy, Road, log_in, moto_server, new_bucket

# Before torch is imported. Two workers of a test would otherwise have as many threads each as there
# are cores, which spin while they wait for each other: ten times as long on two busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Markers of what takes minutes: left out unless -m names them.
ASKED_FOR = ("memory", "faults", "cluster", "bench")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for by its marker."""
    left_out = [name for name in ASKED_FOR if name not in config.option.markexpr]
    slow = [item for item in items if any(map(item.get_closest_marker, left_out))]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """HOST:PORT of an S3 server on this machine."""
    pytest.importorskip("moto")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3(moto: str) -> Iterator[str]:
    """Address of a bucket of S3, behind a good road."""
    bucket = new_bucket(moto)
    with Proxy(moto, Road()).running() as server:
        yield f"s3://{bucket}/{{}}?scheme=http&endpoint_override={server}"


@pytest.fixture(scope="session")
def gs() -> Iterator[str]:
    """Address of a bucket of what stands in for Google's server."""
    with Google().running() as server:
        yield f"gs://bucket/{{}}?scheme=http&endpoint_override={server}"


@pytest.fixture(params=["folder", "s3", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a store that does not exist yet, of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    pytest.importorskip("obstore")
    log_in(monkeypatch)
    address: str = request.getfixturevalue(request.param)
    return address.format(f"runs/{uuid.uuid4().hex[:8]}")
