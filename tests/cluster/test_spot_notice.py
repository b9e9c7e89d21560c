"""A cloud that takes a machine away: a metadata service on loopback, and what Ray is told."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import spot_notice
from lotus_ray.cluster.spot_notice import GOOGLE_SECONDS, Amazon, Google, drain_on_notice
from tests.cluster.clusters import ROOT, ended, head, wait_until


class Cloud:
    """The metadata services of both clouds; its notice may be set at any time."""

    def __init__(self) -> None:
        self.notice = ""  # of Amazon, JSON
        self.preempted = "FALSE"
        self.token = "first"
        self.broken = False
        self.refuses = False  # its own tokens
        self.asked: list[str] = []

    def answer(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        """Return status and text."""
        self.asked.append(f"{method} {path}")
        if self.broken:
            return 503, "busy"
        if path == "/latest/api/token":
            wanted = method == "PUT" and headers["X-aws-ec2-metadata-token-ttl-seconds"]
            return (200, self.token) if wanted else (400, "")
        if path == "/latest/meta-data/spot/instance-action":
            if headers["X-aws-ec2-metadata-token"] != self.token or self.refuses:
                return 401, ""
            return (200, self.notice) if self.notice else (404, "none")
        if path == "/computeMetadata/v1/instance/preempted":
            return (200, self.preempted) if headers["Metadata-Flavor"] == "Google" else (403, "")
        return 404, ""


@contextmanager
def served(cloud: Cloud) -> Iterator[str]:
    """Serve it; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = cloud.answer(self.command, self.path, self.headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def url(cloud: Cloud) -> Iterator[str]:
    with served(cloud) as address:
        yield address


def at_pause(number: int, happens: Callable[[], object]) -> Callable[[float], None]:
    """Return a sleep that takes no time; something happens in its pause of that number."""
    pauses = iter(range(1, 100))

    def sleep(seconds: float) -> None:
        if next(pauses) == number:
            happens()

    return sleep


def test_amazons_notice_drains_with_its_deadline(cloud: Cloud, url: str) -> None:
    """Nothing is drained before the notice; an old token is replaced."""
    drained: list[int] = []

    def new_token() -> None:
        assert drained == []
        cloud.token = "second"
        cloud.notice = json.dumps({"action": "terminate", "time": "2031-05-02T08:22:00Z"})

    deadline = drain_on_notice(Amazon(url), drained.append, at_pause(3, new_token))
    assert datetime.fromtimestamp(deadline, UTC) == datetime(2031, 5, 2, 8, 22, tzinfo=UTC)
    assert drained == [round(deadline * 1000)]
    assert [line.split("/")[-1] for line in cloud.asked] == [
        *("token", "instance-action", "instance-action", "instance-action"),
        *("instance-action", "token", "instance-action"),
    ]


def test_googles_notice_drains_in_half_a_minute(cloud: Cloud, url: str) -> None:
    drained: list[int] = []
    before = time.time()
    drain_on_notice(
        Google(url), drained.append, at_pause(2, lambda: setattr(cloud, "preempted", "TRUE"))
    )
    assert before <= drained[0] / 1000 - GOOGLE_SECONDS <= time.time() + 0.001
    assert len(cloud.asked) == 3


@pytest.mark.parametrize("more", [{}, {"time": "soon"}, {"time": 5}])
def test_a_notice_without_a_time_means_now(cloud: Cloud, url: str, more: dict[str, Any]) -> None:
    cloud.notice = json.dumps({"action": "stop", **more})
    assert drain_on_notice(Amazon(url), lambda end: None) == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize(
    "reply", ["soon", "[]", "{}", "7", '{"action": "wait"}', "<html>sign in</html>", "\xff"]
)
def test_a_reply_that_is_no_notice_drains_nothing_and_is_said_once(
    cloud: Cloud, url: str, caplog: pytest.LogCaptureFixture, reply: str
) -> None:
    """A page of something else at that address; the fifth answer is a notice."""
    cloud.notice, drained = reply, list[int]()
    notice = json.dumps({"action": "terminate", "time": "2031-05-02T08:22:00Z"})

    def real() -> None:
        assert drained == []
        cloud.notice = notice

    with caplog.at_level(logging.WARNING):
        end = drain_on_notice(Amazon(url), drained.append, at_pause(4, real))
    assert drained == [round(end * 1000)]
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "something else than a notice" in line]) == 1


def test_a_service_that_refuses_its_own_token_gives_no_notice(
    cloud: Cloud, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.refuses, cloud.notice = True, json.dumps({"action": "terminate"})
    drained: list[int] = []
    with caplog.at_level(logging.WARNING):
        drain_on_notice(
            Amazon(url), drained.append, at_pause(3, lambda: setattr(cloud, "refuses", False))
        )
    assert len(drained) == 1
    assert cloud.asked.count("GET /latest/meta-data/spot/instance-action") >= 4
    assert "HTTP 401" in caplog.records[0].getMessage()


@pytest.mark.parametrize("kind", [Amazon, Google])
def test_a_service_of_another_kind_gives_no_notice_and_is_named(
    cloud: Cloud, url: str, caplog: pytest.LogCaptureFixture, kind: type[Amazon] | type[Google]
) -> None:
    """A web server that knows none of the pages; later it is the right one."""
    elsewhere = kind(f"{url}/else")
    cloud.preempted, cloud.notice = "TRUE", '{"action": "stop"}'
    drained: list[int] = []
    with caplog.at_level(logging.WARNING):
        drain_on_notice(
            elsewhere, drained.append, at_pause(2, lambda: setattr(elsewhere, "url", url))
        )
    assert len(drained) == 1
    assert "HTTP 404" in caplog.records[0].getMessage()


def test_a_service_that_is_away_is_asked_again_and_named_once(
    cloud: Cloud, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.broken, cloud.preempted = True, "TRUE"
    drained: list[int] = []
    with caplog.at_level(logging.WARNING):
        drain_on_notice(
            Google(url), drained.append, at_pause(4, lambda: setattr(cloud, "broken", False))
        )
    assert len(drained) == 1
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "does not answer" in line] == [
        f"{url} does not answer and is asked again: HTTP 503"
    ]


def test_ray_is_asked_again_until_it_drains(
    cloud: Cloud, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.preempted = "TRUE"
    tries: list[int] = []

    def drain(deadline_ms: int) -> None:
        tries.append(deadline_ms)
        if len(tries) < 3:
            raise ClusterError("not yet")

    drain_on_notice(Google(url), drain, lambda seconds: None)
    assert len(tries) == 3
    assert len(set(tries)) == 1
    assert [record.getMessage() for record in caplog.records].count("not yet") == 1


def test_a_ray_that_never_drains_is_an_error_at_the_end(cloud: Cloud, url: str) -> None:
    cloud.notice = json.dumps({"action": "stop", "time": "2020-01-01T00:00:00Z"})

    def refuse(deadline_ms: int) -> None:
        raise ClusterError("refused")

    with pytest.raises(ClusterError, match="refused"):
        drain_on_notice(Amazon(url), refuse)


def test_only_the_live_nodes_of_the_machine_are_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's client is made up here: node 2 is dead, node 3 another machine's."""
    from lotus_ray.cluster import ray_private

    calls: list[tuple[Any, ...]] = []

    class Id(str):
        def hex(self) -> str:
            return f"id{self}"

    class Node:
        def __init__(self, state: int, address: str) -> None:
            self.state, self.node_manager_address = state, address

    class Client:
        def __init__(self, address: str) -> None:
            calls.append(("client", address))

        def get_all_node_info(self, timeout: float) -> dict[Id, Node]:
            machines = {
                "1": Node(0, "10.0.0.7"),
                "2": Node(1, "10.0.0.7"),
                "3": Node(0, "10.0.0.8"),
            }
            return {Id(name): node for name, node in machines.items()}

        def drain_node(self, *about: Any, timeout: float) -> tuple[bool, str]:
            calls.append(about)
            return True, ""

    monkeypatch.setattr(ray_private, "GcsClient", Client)
    spot_notice.drain_this_machine("10.0.0.1:6379", "10.0.0.7", 1234)
    preemption = DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    words = "the cloud takes this machine away"
    assert calls == [("client", "10.0.0.1:6379"), ("id1", preemption, words, 1234)]
    with pytest.raises(ClusterError, match=r"no node of Ray has the address 10\.0\.0\.9"):
        spot_notice.drain_this_machine("10.0.0.1:6379", "10.0.0.9", 1234)


@pytest.mark.cluster
def test_a_cell_keeps_a_checkpoint_when_the_cloud_gives_notice(
    cloud: Cloud, url: str, tmp_path: Path
) -> None:
    """A grid that keeps a checkpoint an hour has none before the notice, and one after it."""
    store, log = tmp_path / "store", tmp_path / "log"
    grid = [
        *("lotus-ray", "grid", str(ROOT / "jobs" / "digits.yaml"), "--store", str(store)),
        *("--limit", "143", "--set", "grid.methods=[original]"),
        *("--set", "grid.models.0.train.epochs=3000"),
        *("--set", "resources.checkpoint_seconds=3600"),
    ]
    agent = [
        *(sys.executable, "-m", "lotus_ray", "spot-agent", "--provider", "aws"),
        *("--metadata-url", url, "--address"),
    ]
    with head("--num-cpus", "2") as cluster:
        watcher = cluster.start(*agent, cluster.address, log=tmp_path / "agent")
        driver = cluster.start(*grid, log=log)
        with ended(watcher), ended(driver):
            wait_until(lambda: list(store.glob("attempts/*/*/begun.json")), driver, log)
            time.sleep(5)
            assert list(store.glob("borders/*/*.pt")) == []
            assert watcher.poll() is None
            end = datetime.now(UTC) + timedelta(seconds=120)
            cloud.notice = json.dumps({"action": "terminate", "time": end.isoformat()})
            assert watcher.wait(60) == 0, (tmp_path / "agent").read_text()
            wait_until(lambda: list(store.glob("borders/*/*.pt")), driver, log)
