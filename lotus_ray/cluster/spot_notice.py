"""Tell Ray that the cloud takes this machine away, as soon as the cloud says so.

Ray polls no cloud itself. Once its node is drained, `ray.train.get_preemption_info` says so to each
worker there, and the cell writes a checkpoint.

Source: the instance metadata services of Amazon EC2 (version 2) and Google Compute Engine.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import ray.util

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import ray_private

REPLY_SECONDS = 3
TOKEN_SECONDS = 21600  # how long a token of EC2 is asked for
GOOGLE_SECONDS = 30  # between Google's notice, which names no time, and the end
AGAIN_SECONDS = 1.0  # between two tries to drain
ACTIONS = ("terminate", "stop", "hibernate")  # that EC2 gives notice of

_log = logging.getLogger(__name__)
# Metadata are never asked for through a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
Drain = Callable[[int], None]


class _NoAnswer(Exception):
    """The metadata service does not answer, or not as it should."""


@dataclass
class Amazon:
    """The notice of an EC2 spot instance, two minutes before its end."""

    url: str = "http://169.254.169.254"
    every_seconds: float = 5.0
    _token: str = ""

    def deadline(self) -> float | None:
        """Return when the machine goes, in seconds since 1970; None if it stays."""
        status, text = self._notice() if self._token else (HTTPStatus.UNAUTHORIZED, "")
        if status == HTTPStatus.UNAUTHORIZED:  # no token yet, or it is too old
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self._token = _ask("PUT", f"{self.url}/latest/api/token", headers)[1]
            status, text = self._notice()
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status == HTTPStatus.UNAUTHORIZED:
            raise _NoAnswer("it takes no token that it has given itself: HTTP 401")
        return _end_of(text)

    def _notice(self) -> tuple[int, str]:
        """Return status and text; without a notice the page is not found."""
        path = f"{self.url}/latest/meta-data/spot/instance-action"
        headers = {"X-aws-ec2-metadata-token": self._token}
        return _ask("GET", path, headers, HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED)


def _end_of(text: str) -> float:
    """Return when a notice of EC2 says that the machine goes; now if it names no time.

    Raises:
        _NoAnswer: it is no notice. A service of another kind may answer anything.
    """
    try:
        notice = json.loads(text)
    except ValueError:
        notice = None
    if not isinstance(notice, dict) or notice.get("action") not in ACTIONS:
        raise _NoAnswer(f"it answers something else than a notice: {text[:40]!r}")
    try:
        return datetime.fromisoformat(notice["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return time.time()  # it goes, and does not say when


@dataclass
class Google:
    """The notice of a spot machine of Compute Engine, 30 seconds before its end."""

    url: str = "http://metadata.google.internal"
    every_seconds: float = 1.0

    def deadline(self) -> float | None:
        """Return when the machine goes, in seconds since 1970; None if it stays."""
        path = f"{self.url}/computeMetadata/v1/instance/preempted"
        _, text = _ask("GET", path, {"Metadata-Flavor": "Google"})
        return time.time() + GOOGLE_SECONDS if text.strip() == "TRUE" else None


Provider = Amazon | Google
PROVIDERS: Mapping[str, type[Provider]] = {"aws": Amazon, "gcp": Google}


def drain_on_notice(
    provider: Provider, drain: Drain, sleep: Callable[[float], object] = time.sleep
) -> float:
    """Wait until the provider gives notice, then drain.

    A metadata service that does not answer is asked again for ever; one line says so.

    Args:
        provider: is asked every `every_seconds`.
        drain: takes the end of the machine in milliseconds since 1970. It raises ClusterError if
            Ray does not take it; then it is called again until the machine's end.
        sleep: waits for some seconds.

    Returns:
        The end of the machine, in seconds since 1970.

    Raises:
        ClusterError: Ray did not take it until then.
    """
    deadline = _next_deadline(provider, sleep)
    _log.warning("this machine goes in %.0f s: draining its Ray node", deadline - time.time())
    said = ""
    while True:
        try:
            drain(round(deadline * 1000))
        except ClusterError as error:
            if time.time() >= deadline:
                raise
            if error.what != said:
                _log.warning("%s", error.what)
            said = error.what
            sleep(AGAIN_SECONDS)
        else:
            return deadline


def drain_this_machine(cluster: str, machine: str, deadline_ms: int) -> None:
    """Drain all Ray nodes of a machine.

    Args:
        cluster: HOST:PORT, or auto: the one that this machine joined.
        machine: address of the machine in the cluster; an empty text: of this one.
        deadline_ms: its end, in milliseconds since 1970.

    Raises:
        ClusterError: there is no such node, the cluster does not answer, or it refuses.
    """
    machine = machine or ray.util.get_node_ip_address()
    message = "the cloud takes this machine away"
    try:
        nodes = ray_private.drain_nodes(cluster, machine, message, deadline_ms, REPLY_SECONDS)
    except Exception as error:  # Ray raises its own kinds of many errors
        raise ClusterError(f"Ray does not drain {machine}: {error}", where=cluster) from error
    if not nodes:
        raise ClusterError(
            f"no node of Ray has the address {machine}", where=cluster, next_command="ray status"
        )


def _next_deadline(provider: Provider, sleep: Callable[[float], object]) -> float:
    """Ask until there is a notice. Say once when the service stops to answer."""
    answers = True
    while True:
        try:
            deadline = provider.deadline()
        except _NoAnswer as error:
            if answers:
                _log.warning("%s does not answer and is asked again: %s", provider.url, error)
            answers, deadline = False, None
        else:
            answers = True
        if deadline is not None:
            return deadline
        sleep(provider.every_seconds)


def _ask(method: str, url: str, headers: dict[str, str], *expected: int) -> tuple[int, str]:
    """Return status and text of an answer. Errors that are not expected raise _NoAnswer."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with _opener.open(request, timeout=REPLY_SECONDS) as reply:
            return HTTPStatus.OK, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            if error.code in expected:
                return error.code, ""
            raise _NoAnswer(f"HTTP {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _NoAnswer(str(error) or type(error).__name__) from error
