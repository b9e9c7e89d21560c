"""Servers of objects on this machine: moto's S3, one that stands in for Google's, and bad roads."""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.server
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

KEY, SECRET = "canary-key-7f3a", "canary-secret-91c4"
_KEPT_OFF = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process credentials that no server here looks at."""
    for name in (*_KEPT_OFF, "GOOGLE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", SECRET)


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's S3; give HOST:PORT."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        yield f"127.0.0.1:{running.get_host_and_port()[1]}"
    finally:
        running.stop()


def new_bucket(server: str) -> str:
    """Make a bucket of a server that speaks S3; return its name."""
    name = f"store-{uuid.uuid4().hex[:12]}"
    connection = http.client.HTTPConnection(server, timeout=30)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
    return name


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request at a time, read whole; what is done with it is the server's `answer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.answer(self.command, self.path, dict(self.headers), body)  # type: ignore[attr-defined]
        if answer is None:  # hang up
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, content = answer
        with suppress(OSError):  # who asked may not wait any more
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in headers}:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(content)
            if len(content) < int(headers.get("Content-Length", 0)):  # hang up in the middle
                self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


Answer = tuple[int, dict[str, str], bytes] | None


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of ours."""

    @property
    def place(self) -> str:
        """Return HOST:PORT."""
        return f"127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run; give HOST:PORT."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self.place
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


@dataclass
class Road:
    """How a road is bad: of so many requests, which part meets what. Seeded."""

    lost: float = 0.0  # the request arrives, its reply does not
    cut: float = 0.0  # the reply ends in its middle
    delayed: float = 0.0
    conflict: float = 0.0  # 409 to a conditional request, which does not arrive
    busy: float = 0.0  # 503, and the request does not arrive
    damaged: float = 0.0  # a bit of the body flips before it arrives
    verified: bool = False  # the server refuses a body without the SHA-256 that was sent with it
    delay_seconds: float = 0.05
    seed: int = 0
    ignores_conditions: bool = False  # as a server of long ago
    met: dict[str, int] = field(default_factory=dict)  # how often what was met

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._lock = threading.Lock()

    def fate(self, conditional: bool) -> str:
        """Return what the next request meets."""
        with self._lock:
            drawn = self._chance.random()
            met = "nothing"
            for name in ("lost", "cut", "delayed", "conflict", "busy", "damaged"):
                drawn -= getattr(self, name)
                if drawn < 0:
                    met = name
                    break
            if met == "conflict" and not conditional:
                met = "busy"
            self.met[met] = self.met.get(met, 0) + 1
        return met


class Proxy(_Server):
    """A bad road to a server. Writes go there one by one, since moto's own check is not atomic."""

    def __init__(self, target: str, road: Road) -> None:
        super().__init__()
        self.target, self.road = target, road
        self._one_by_one = threading.Lock()
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Forward a request, or not; give the reply, or None to hang up."""
        self.requests.append((method, path, headers))
        sent = {name.lower(): value for name, value in headers.items()}
        met = self.road.fate("if-none-match" in sent)
        if met == "busy":
            return 503, {}, b"<Error><Code>SlowDown</Code></Error>"
        if met == "conflict":
            return 409, {}, b"<Error><Code>ConditionalRequestConflict</Code></Error>"
        if met == "delayed":
            time.sleep(self.road.delay_seconds)
        if met == "damaged" and body and method == "PUT":
            body = bytes([body[0] ^ 1]) + body[1:]
        own = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if self.road.verified and sent.get("x-amz-checksum-sha256", own) != own:
            return 400, {}, b"<Error><Code>BadDigest</Code></Error>"
        if self.road.ignores_conditions:
            sent.pop("if-none-match", None)
        sent["connection"] = "close"
        with self._one_by_one if method != "GET" else nullcontext():
            status, replied, content = self._forward(method, path, sent, body)
        if met == "lost":
            return None
        if met == "cut" and method == "GET" and len(content) > 1:
            return status, replied, content[: len(content) // 2]
        return status, replied, content

    def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            content = reply.read()
            dropped = ("connection", "transfer-encoding", "date", "server")
            kept = {k.title(): v for k, v in reply.getheaders() if k.lower() not in dropped}
            return reply.status, kept, content
        finally:
            connection.close()


class Google(_Server):
    """As much of Google's XML interface as a store needs, as its reference describes it."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, tuple[bytes, int]] = {}  # content and row version
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.conditions: list[str] = []
        self._row_version = 0
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer a request; one is handled after the other."""
        sent = {name.lower(): value for name, value in headers.items()}
        parts = urlsplit(path)
        asked = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        name = unquote(parts.path).lstrip("/").partition("/")[2]
        with self._lock:
            if method == "GET" and not name:
                return self._list(asked.get("prefix", ""), asked.get("delimiter", ""))
            if method == "PUT" and "uploadId" in asked:
                self.uploads[asked["uploadId"]][int(asked["partNumber"])] = body
                return 200, {"ETag": '"part"'}, b""
            if method == "POST":
                return self._upload(name, asked)
            if method == "PUT":
                condition = sent.get("x-goog-if-generation-match")
                if condition is not None:
                    self.conditions.append(condition)
                    if name in self.objects and condition == "0":
                        return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
                return self._keep(name, body)
            found = self.objects.get(name)
            if found is None:
                return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
            if method == "DELETE":
                del self.objects[name]
                return 204, {}, b""
            return self._give(method, *found, sent)

    def _keep(self, name: str, body: bytes) -> Answer:
        self._row_version += 1
        self.objects[name] = (body, self._row_version)
        return 200, self._about(body, self._row_version), b""

    def _about(self, body: bytes, row_version: int) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(body).hexdigest()}"',
            "x-goog-generation": str(row_version),
            "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT",
        }

    def _give(self, method: str, body: bytes, row_version: int, sent: dict[str, str]) -> Answer:
        about = self._about(body, row_version)
        if method == "HEAD":
            return 200, {**about, "Content-Length": str(len(body))}, b""
        if sent.get("if-match", about["ETag"]).strip('"') != about["ETag"].strip('"'):
            return 412, {}, b""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", sent.get("range", ""))
        if wanted is None:
            return 200, about, body
        first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        about["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return 206, about, body[first : last + 1]

    def _upload(self, name: str, asked: dict[str, str]) -> Answer:
        if "uploads" in asked:
            number = uuid.uuid4().hex
            self.uploads[number] = {}
            xml = f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId>"
            return 200, {}, f"{xml}</InitiateMultipartUploadResult>".encode()
        parts = self.uploads.pop(asked["uploadId"], None)
        if parts is None:
            return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
        kept = self._keep(name, b"".join(parts[number] for number in sorted(parts)))
        assert kept is not None
        kept[1]["ETag"] = f'"joined-{kept[1]["x-goog-generation"]}"'  # no MD5, as Google's
        xml = f"<CompleteMultipartUploadResult><ETag>{kept[1]['ETag']}</ETag>"
        return 200, kept[1], f"{xml}</CompleteMultipartUploadResult>".encode()

    def _list(self, prefix: str, delimiter: str) -> Answer:
        below = [name for name in self.objects if name.startswith(prefix)]
        deeper = {
            name: prefix + rest.split(delimiter)[0] + delimiter
            for name in below
            if delimiter and delimiter in (rest := name.removeprefix(prefix))
        }
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(body)}</Size>"
            f"<LastModified>2026-11-24T10:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for name, (body, _) in sorted(self.objects.items())
            if name in below and name not in deeper
        )
        found += "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(set(deeper.values()))
        )
        return 200, {}, f"<ListBucketResult>{found}</ListBucketResult>".encode()
