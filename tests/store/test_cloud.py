"""A bucket behind a bad road: nothing is lost or there twice, and nobody waits for ever."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("obstore")
pytest.importorskip("moto")

from obstore.exceptions import BaseError

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.cli.main import main
from lotus_ray.store.objects import cloud
from lotus_ray.store.objects.address import Address
from lotus_ray.store.objects.cloud import CloudObjects
from lotus_ray.store.objects.errors import Fault
from lotus_ray.store.objects.retry import RetryPolicy
from lotus_ray.store.results import Store
from lotus_ray.store.row import OK, Row
from tests.cloud import KEY, SECRET, Answer, Google, Proxy, Road, log_in, new_bucket

QUICK = RetryPolicy(first_seconds=0.01, longest_seconds=0.1, total_seconds=20, request_seconds=2)
HASTY = RetryPolicy(first_seconds=0.01, longest_seconds=0.1, total_seconds=0.5, request_seconds=1)


class Roads:
    """Lays roads to one bucket."""

    def __init__(self, moto: str, stack: ExitStack) -> None:
        self.moto, self.stack, self.bucket = moto, stack, new_bucket(moto)

    def uri(self, road: Road) -> str:
        """Return the address of a store at the end of a new road."""
        self.proxy = Proxy(self.moto, road)
        server = self.stack.enter_context(self.proxy.running())
        return f"s3://{self.bucket}/runs?scheme=http&endpoint_override={server}"

    def objects(self, road: Road, retry_policy: RetryPolicy = QUICK) -> CloudObjects:
        """Return the objects at the end of a new road."""
        return CloudObjects(Address.parse(self.uri(road)), retry_policy)


class Heard(Google):
    """Keeps the methods of its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.methods: list[str] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.methods.append(method)
        return super().answer(method, path, headers, body)


@pytest.fixture
def roads(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roads]:
    log_in(monkeypatch)
    monkeypatch.setattr(cloud, "PATIENCE", QUICK)
    with ExitStack() as stack:
        yield Roads(moto, stack)


@pytest.mark.parametrize("cells", [30, pytest.param(100, marks=pytest.mark.faults)])
def test_commits_of_two_writers_on_a_bad_road(roads: Roads, cells: int) -> None:
    """Each cell is committed by both at once: one row each, the same for both, whole.

    Of all requests 6 % lose their reply after they have arrived, 3 % of the replies are cut, and
    one in eight is late, in conflict, or refused because the server is busy.
    """
    road = Road(lost=0.06, cut=0.03, delayed=0.05, conflict=0.04, busy=0.04, delay_seconds=0.02)
    uri, together = roads.uri(road), threading.Barrier(2)

    def write(writer: int) -> dict[str, str]:
        store = Store.open(uri)
        seen = {}
        for number in range(cells):
            attempt = store.begin(f"cell{number}", 0, {})
            files = {"weights": attempt.attempt_id.encode() * 20, "none": b""}
            together.wait(timeout=60)
            row = store.commit(attempt, Row(status=OK, extra={"writer": writer}), files)
            seen[row.cell_id] = row.attempt_id
        return seen

    Store.open(uri).check_writable()
    with ThreadPoolExecutor(2) as writers:
        first, second = writers.map(write, range(2))
    assert (
        min(road.met[name] for name in ("lost", "cut", "delayed", "conflict", "busy")) > cells // 30
    )
    store = Store.open(roads.uri(Road()))
    rows = store.rows()
    assert len(rows) == cells
    assert len(store.objects.names("rows/")) == cells
    assert {cell: row.attempt_id for cell, row in rows.items()} == first == second
    assert {row.extra["writer"] for row in rows.values()} == {0, 1}
    for cell_id, row in rows.items():
        assert store.attempts(cell_id) == 2
        assert store.artifact(row, "weights") == row.attempt_id.encode() * 20
        assert store.artifact(row, "none") == b""


@pytest.mark.parametrize("seed", range(3))
def test_of_those_that_create_on_a_bad_road_each_knows_whether_it_won(
    roads: Roads, seed: int
) -> None:
    """A reply that was lost does not turn the winner into a loser, nor the loser into a winner."""
    objects = roads.objects(Road(lost=0.25, conflict=0.15, busy=0.05, seed=seed))
    for turn in range(15):
        with ThreadPoolExecutor(3) as pool:
            won = list(pool.map(lambda n, t=turn: objects.create(f"{t}", bytes([n])), range(3)))
        assert sorted(won) == [False, False, True]
        assert objects.read(f"{turn}") == bytes([won.index(True)])


def test_without_a_look_at_the_content_a_lost_reply_would_be_a_loss(roads: Roads) -> None:
    """The road does drop the reply to a create: the second request meets the first one's object."""
    objects = roads.objects(Road(lost=0.5, seed=1))
    assert all(objects.create(f"{number}", b"ours") for number in range(10))
    puts = [path for method, path, _ in roads.proxy.requests if method == "PUT"]
    assert len(puts) > 10
    assert all(
        "If-None-Match" in sent or "if-none-match" in sent
        for method, _, sent in roads.proxy.requests
        if method == "PUT"
    )


def test_a_conflict_about_nothing_is_asked_again(roads: Roads) -> None:
    """409 to the first request, and no object: nobody created it."""
    objects = roads.objects(Road(conflict=0.5, seed=3))
    assert all(objects.create(f"{number}", b"ours") for number in range(10))
    assert roads.proxy.road.met["conflict"] > 3


def test_parts_of_a_large_object_are_sent_again(
    roads: Roads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "PART_BYTES", 5 << 20)  # the smallest part that S3 takes
    content = os.urandom(26 << 20)
    objects = roads.objects(Road(lost=0.15, busy=0.1, seed=2))
    objects.replace("weights", content)
    parts = [path for method, path, _ in roads.proxy.requests if "partNumber" in path]
    assert len(parts) > 6
    assert len(set(parts)) < len(parts)
    assert objects.read("weights") == content


@pytest.mark.parametrize("size", [1000, 16 << 20])
def test_what_a_server_vouches_for_is_not_read_back(roads: Roads, size: int) -> None:
    """One request for an object, and for one in parts those of its parts; no GET."""
    objects, content = roads.objects(Road()), os.urandom(size)
    objects.replace_proven("weights", content)
    methods = [method for method, _, _ in roads.proxy.requests]
    assert set(methods) == ({"PUT"} if size == 1000 else {"PUT", "POST"})
    assert methods.count("PUT") == (1 if size == 1000 else 2)
    assert objects.read("weights") == content


@pytest.mark.parametrize("size", [1000, 16 << 20])
def test_a_body_damaged_on_its_way_is_refused_by_the_server_and_sent_again(
    roads: Roads, size: int
) -> None:
    """A third of all bodies; by the SHA-256 that is sent with each, also with that of a part."""
    objects, content = roads.objects(Road(damaged=1 / 3, verified=True, seed=1)), os.urandom(size)
    for number in range(3):
        objects.replace_proven(f"weights{number}", content)
        assert objects.read(f"weights{number}") == content
    assert roads.proxy.road.met["damaged"] > 0


@pytest.mark.parametrize("size", [1000, 16 << 20])
def test_a_body_damaged_on_its_way_to_a_server_that_checks_nothing_is_found(
    roads: Roads, size: int
) -> None:
    objects, content = roads.objects(Road(damaged=1.0)), os.urandom(size)
    with pytest.raises(StoreError, match="reads back differently") as caught:
        objects.replace_proven("weights", content)
    assert caught.value.where == f"s3://{roads.bucket}/runs/weights"


@pytest.mark.parametrize("size", [1000, 16 << 20])
def test_google_vouches_for_an_object_of_one_request_alone(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The ETag of an object that Google joined from parts is no MD5: this one is read back."""
    log_in(monkeypatch)
    server, content = Heard(), os.urandom(size)
    with server.running() as place:
        address = Address.parse(f"gs://bucket/runs?scheme=http&endpoint_override={place}")
        CloudObjects(address, QUICK).replace_proven("weights", content)
    assert server.objects["runs/weights"][0] == content
    assert ("GET" in server.methods) == (size > 1000)


def test_a_server_that_is_always_busy_is_left_in_time(
    roads: Roads, caplog: pytest.LogCaptureFixture
) -> None:
    objects = roads.objects(Road(busy=1.0), HASTY)
    for request in (
        lambda: objects.create("x", b"x"),
        lambda: objects.replace("x", b"x"),
        lambda: objects.read("x"),
        lambda: objects.etag("x"),
        lambda: objects.names("x/"),
    ):
        start = time.monotonic()
        with pytest.raises(StoreUnreachable, match=r"HTTP 503.*, [0-9]+ times in") as caught:
            request()
        assert time.monotonic() - start < QUICK.total_seconds  # 1.5 s where nothing else runs
        assert caught.value.exit_code == 5
        assert caught.value.next_command.startswith("run the same command again")
    assert "HTTP 503 SlowDown; retrying" in caplog.text


def test_nobody_waits_for_a_server_that_hangs_or_is_not_there(roads: Roads) -> None:
    address = Address.parse("s3://bucket/runs?scheme=http&endpoint_override=127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(StoreUnreachable, match="no connection"):
        CloudObjects(address, HASTY).read("x")
    late = roads.objects(Road(delayed=1.0, delay_seconds=1.5), HASTY)
    with pytest.raises(StoreUnreachable, match="it took too long"):
        late.create("x", b"x")
    assert time.monotonic() - start < QUICK.total_seconds  # 4 s where nothing else runs


@pytest.mark.parametrize(
    ("status", "body", "said", "command"),
    [
        (403, "<Code>AccessDenied</Code><AWSAccessKeyId>{}</AWSAccessKeyId>", "403", "AWS_ACCESS"),
        (400, "<Code>AuthorizationHeaderMalformed</Code>", "400 Authorization", "AWS_REGION"),
        (301, "", "another region", "AWS_REGION"),
        (400, "<Code>ExpiredToken</Code>", "400 ExpiredToken", "AWS_ACCESS"),
    ],
)
def test_what_asking_again_cannot_help_is_said_at_once(
    roads: Roads,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: str,
    said: str,
    command: str,
) -> None:
    objects = roads.objects(Road())
    answers = [(status, {}, f"<E>{body.format(KEY)}</E>".encode())]
    monkeypatch.setattr(roads.proxy, "answer", lambda *_: answers.pop())  # no second request
    with pytest.raises(StoreError, match=said) as caught:
        objects.create("x", b"x")
    assert not isinstance(caught.value, StoreUnreachable)
    assert command in caught.value.next_command
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_ignores_conditions_is_refused(roads: Roads) -> None:
    store = Store.open(roads.uri(Road(ignores_conditions=True)))
    with pytest.raises(StoreError, match="must not create an object that exists") as caught:
        store.check_writable()
    assert "If-None-Match" in caught.value.nearest
    assert store.objects.names("") == []


def test_a_bucket_that_is_not_there_is_said(roads: Roads) -> None:
    uri = roads.uri(Road()).replace(roads.bucket, "no-such-bucket")
    for wrong in (Store.open(uri).check_writable, Store.open(uri).rows):
        with pytest.raises(StoreError, match="there is no such bucket") as caught:
            wrong()
        assert caught.value.where == "s3://no-such-bucket"


def test_an_object_that_changes_while_it_is_read_is_read_again(
    roads: Roads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second half is asked for by the ETag of the first."""
    monkeypatch.setattr(cloud, "PART_BYTES", 1000)
    objects, other = roads.objects(Road()), roads.objects(Road())
    monkeypatch.setattr(cloud, "PART_BYTES", 10_000)
    other.replace("border", b"a" * 3000)
    monkeypatch.setattr(cloud, "PART_BYTES", 1000)
    proxy = roads.proxy
    get, asked = CloudObjects._ask, []

    def ask(self: CloudObjects, name: str, request: object) -> object:
        asked.append(name)
        if len(asked) == 3:  # the whole, its first part, its second
            other._put(other._once, name, b"b" * 3000, use_multipart=False)
        return get(self, name, request)  # type: ignore[arg-type]

    monkeypatch.setattr(CloudObjects, "_ask", ask)
    assert objects.read("border") == b"b" * 3000
    assert proxy.requests


def test_credentials_that_are_none_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch)
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
    for value in (str(tmp_path / "nothing.json"), f'{{"private_key": "{SECRET}"}}'):
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", value)
        with pytest.raises(StoreError, match="credentials or servers is invalid") as caught:
            Store.open("gs://bucket/runs")
        assert SECRET not in str(caught.value)
        assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.next_command


def test_a_machine_without_credentials_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has none in the environment asks the machine's own address, which says no."""
    metadata = (
        "Generic GCS error: Error performing token request: Error performing GET "
        "http://169.254.169.254/computeMetadata/v1/x in 1 ms - Server returned non-2xx status "
        "code: {}: \n\nDebug source:\n"
    )
    address = Address("gs", "bucket", "runs")
    fault = Fault.of(BaseError(metadata.format("404 Not Found")))
    assert not fault.passes
    refusal = fault.refusal(address, "x")
    assert "has no credentials" in refusal.what
    assert "GOOGLE_APPLICATION_CREDENTIALS" in refusal.next_command
    assert Fault.of(BaseError(metadata.format("503 Busy"))).passes


def test_an_endpoint_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRET}@localhost:1")
    with pytest.raises(StoreError, match="holds a password") as caught:
        Store.open("s3://bucket/runs")
    assert caught.value.where == "AWS_ENDPOINT_URL"
    assert SECRET not in str(caught.value)


def test_the_server_of_a_bucket_is_said_by_the_environment(
    roads: Roads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for data: AWS_ENDPOINT_URL; what stands in the address goes before it."""
    uri = roads.uri(Road())
    server = uri.rpartition("=")[2]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    Store.open(uri.partition("?")[0]).check_writable()
    assert Store.open(uri).exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert Store.open(uri).exists()


def test_a_busy_store_ends_a_command_with_5_and_no_secret(
    roads: Roads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cloud, "PATIENCE", HASTY)
    uri = roads.uri(Road(busy=1.0))
    for command in (["grid", "jobs/digits.yaml", "--local", "--store", uri], ["report", uri]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 5, result.stderr
        assert "the store does not answer as it should: HTTP 503 SlowDown" in result.stderr
        assert "next: run the same command again" in result.stderr
        assert SECRET not in result.output + result.stderr + caplog.text
    assert logging.WARNING in {record.levelno for record in caplog.records}
