"""What every test run does."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.cloud import Google, Proxy, Road, log_in, moto_server, new_bucket
from tests.processes import pytest_runtest_call, pytest_runtest_setup  # noqa: F401

# Before torch is imported. Two workers of a test would otherwise have as many threads each as there
# are cores, which spin while they wait for each other: ten times as long on two busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that a run says something about the change that it tests.
# `--hypothesis-profile=default` draws others.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")

# A script starts what runs in its background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Markers of what takes minutes: left out unless -m names them.
ASKED_FOR = ("memory", "faults", "cluster", "bench", "models")
LEFT_OUT = pytest.StashKey[dict[str, int]]()
HOUR = 3600  # seconds
RAY = "tests/cluster/"
# Files of half a minute and more begin early, so that no worker has one left in the end.
LONG = (
    *("faults/test_kills", "unlearning/test_two_workers", "faults/test_full_disk"),
    *("test_layers", "trial/test_trial_images", "job/test_paper_jobs", "grid/test_live"),
    *("unlearning/test_restart", "bench/test_conformance", "unlearning/methods/test_contract"),
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many workers run the tests: none for a file, or what is measured.

    One more than there are cores: that of tests/cluster mostly waits for processes of Ray.
    """
    alone = any(name in config.option.markexpr for name in ASKED_FOR)
    return 0 if alone or any(".py" in path for path in config.args) else (os.cpu_count() or 1) + 1


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Give each file to one worker, as its tests share what they train, and all of Ray to one."""

    def _split_scope(self, nodeid: str) -> str:
        return RAY if nodeid.startswith(RAY) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    return FileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless asked for by its marker; begin with what is long."""
    names = [name for name in ASKED_FOR if name not in config.option.markexpr]
    slow = [item for item in items if any(map(item.get_closest_marker, names))]
    left_out = Counter(name for item in slow for name in names if item.get_closest_marker(name))
    config.stash[LEFT_OUT] = dict(left_out)
    items[:] = [item for item in items if item not in slow]
    items.sort(key=_place)
    config.hook.pytest_deselected(items=slow)
    for item in items:
        if any(map(item.get_closest_marker, ASKED_FOR)):
            item.add_marker(pytest.mark.timeout(HOUR))


def _place(item: pytest.Item) -> int:
    """Return when a test's file is begun: Ray, those of LONG as they stand there, all others."""
    file = item.nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py")
    long = LONG.index(file) + 1 if file in LONG else len(LONG) + 1
    return 0 if item.nodeid.startswith(RAY) else long


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary what a worker left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})


def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was left out."""
    for name, count in sorted(config.stash.get(LEFT_OUT, {}).items()):
        terminalreporter.write_line(f"left out: {count} tests that pytest -m {name} runs")


@pytest.fixture(scope="module")
def no_page() -> Iterator[None]:
    """Leave out the figures of the report page: two seconds of each grid that looks elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lotus_ray.report.page.to_page", lambda *_, **__: "<html></html>")
        yield


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
