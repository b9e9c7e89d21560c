"""Objects in a bucket of S3, of a compatible server, or of Google. Needs obstore.

The library makes each request once. Retries happen here, because only here can a lost reply be
distinguished from another writer's object. The library itself retries only parts of large objects.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, S3Store

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects.address import Address
from lotus_ray.store.objects.errors import LOGIN, Fault, no_bucket
from lotus_ray.store.objects.retry import PATIENCE, RetryPolicy

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

PART_BYTES = 8 << 20  # size of one request for a large object
LOUD_AFTER = 3  # tries before a warning: one retry is normal
_PARTS_AT_ONCE = 4
_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("GOOGLE_BASE_URL",)}
_END = object()
_log = logging.getLogger(__name__)
T = TypeVar("T")


class CloudObjects:
    """A prefix of a bucket. Credentials come from the environment or the machine's role."""

    def __init__(self, address: Address, retry_policy: RetryPolicy | None = None) -> None:
        self.address = address
        self.retry_policy = retry_policy or PATIENCE
        try:
            self._once = _client(address, self.retry_policy, retries=0)
            self._parts = _client(address, self.retry_policy, retries=20)
        except (BaseError, OSError, ValueError):  # the text may hold a secret
            raise StoreError(
                "an environment variable for credentials or servers is invalid",
                where=address.base,
                next_command=LOGIN[address.scheme],
            ) from None

    def read(self, name: str) -> bytes:
        """Return an object, in parts if it is large; raises FileNotFoundError."""
        try:
            return self._ask(name, lambda: self._get(name))
        except FileNotFoundError:
            where = f"{self.address.base}/{name}"
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from None

    def create(self, name: str, content: bytes) -> bool:
        """Create an object by a request that succeeds only if there is none.

        If the server says that there is one, it may be our own: the reply was lost and the request
        repeated. Or there may be none: two requests collided and neither succeeded.
        """

        def attempt() -> bool:
            try:
                self._put(self._once, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                try:
                    return self._get(name) == content
                except FileNotFoundError:
                    raise _TryAgain("ConditionalRequestConflict") from None
            return True

        return self._ask(name, attempt)

    def replace(self, name: str, content: bytes) -> None:
        """Write an object. Each part of a large one is retried on its own."""
        if len(content) <= PART_BYTES:
            self._ask(name, lambda: self._put(self._once, name, content, use_multipart=False))
            return
        self._ask(
            name,
            lambda: self._put(
                self._parts,
                name,
                content,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            ),
        )

    def delete_all(self, prefix: str) -> None:
        """Remove all objects under `prefix`. Objects that cannot be removed stay."""
        with suppress(StoreError, FileNotFoundError):
            if names := self._list(prefix):
                self._ask(prefix, lambda: obstore.delete(self._once, names))

    def etag(self, name: str) -> str | None:
        """Return the ETag of an object, and its version if the bucket keeps versions."""
        try:
            head = self._ask(name, lambda: obstore.head(self._once, name))
        except FileNotFoundError:
            return None
        return f"{head['e_tag']} {head['version'] or ''}".strip()

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names under `prefix`."""
        return sorted(n for n in self._list(prefix) if not n.rpartition("/")[2].startswith("."))

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of the folders directly in `prefix`, each with its slash."""

        def attempt() -> list[str]:
            listing = obstore.list_with_delimiter(self._once, prefix or None)
            return sorted(f"{name}/" for name in listing["common_prefixes"])

        return self._ask(prefix, attempt)

    def _list(self, prefix: str) -> list[str]:
        def attempt() -> list[str]:
            return [entry["path"] for page in obstore.list(self._once, prefix) for entry in page]

        return self._ask(prefix, attempt)

    def _put(self, client: Any, name: str, content: bytes, **how: Any) -> None:
        try:
            obstore.put(client, name, content, **how)
        except FileNotFoundError as error:
            fault = Fault.of(error)
            if fault.passes:  # the reply to the last request of a multipart upload was lost
                raise _TryAgain(fault.code) from None
            raise no_bucket(self.address) from None

    def _get(self, name: str) -> bytes:
        """Return an object. A large one is read in parts, each retried on its own."""
        reply = obstore.get(self._once, name)
        size, etag = reply.meta["size"], reply.meta["e_tag"]
        if size <= PART_BYTES:
            return reply.bytes().to_bytes()
        del reply  # and its connection

        def part(start: int) -> Bytes:
            how: GetOptions = {"range": (start, min(start + PART_BYTES, size)), "if_match": etag}
            return obstore.get(self._once, name, options=how).bytes()

        try:
            starts = range(0, size, PART_BYTES)
            return b"".join(self._ask(name, partial(part, start)) for start in starts)
        except PreconditionError:
            raise _TryAgain("ReplacedWhileRead") from None

    def _ask(self, name: str, request: Callable[[], T]) -> T:
        """Make a request, and retry it until it is answered or the retry policy ends.

        Raises:
            FileNotFoundError: there is no such object.
            PreconditionError: the object was replaced meanwhile.
            StoreError: the server refuses, or does not answer.
        """
        start, pauses = time.monotonic(), self.retry_policy.pauses()
        for tries in count(1):
            try:
                return request()
            except (FileNotFoundError, PreconditionError):
                raise
            except (BaseError, OSError, _TryAgain) as error:
                fault = Fault.of(error)
            if not fault.passes:
                raise fault.refusal(self.address, name)
            if tries == LOUD_AFTER:
                _log.warning("%s: %s; retrying", self.address.base, fault.summary)
            if next(pauses, _END) is _END:
                raise fault.end(self.address, name, tries, time.monotonic() - start)
        raise AssertionError("unreachable")


class _TryAgain(Exception):
    """A reply that cannot be trusted, such as "it exists" for an object that does not."""

    def __str__(self) -> str:
        return f"status code: 409 <Code>{self.args[0]}</Code>"


def _client(address: Address, retry_policy: RetryPolicy, retries: int) -> GCSStore | S3Store:
    """Return a client that itself retries a request up to `retries` times."""
    endpoint = address.endpoint or _endpoint_here(address.scheme)
    options: ClientConfig = {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "timeout": timedelta(seconds=retry_policy.request_seconds),
        "connect_timeout": timedelta(seconds=retry_policy.connect_seconds),
    }
    again: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=retry_policy.total_seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=retry_policy.first_seconds),
            "max_backoff": timedelta(seconds=retry_policy.longest_seconds),
            "base": 2,
        },
    }
    prefix = address.prefix or None
    if address.scheme == "gs":
        google: GCSConfig = {"base_url": endpoint} if endpoint else {}
        return GCSStore(
            address.bucket, prefix=prefix, config=google, client_options=options, retry_config=again
        )
    amazon: S3Config = {"conditional_put": "etag"}
    if endpoint:
        amazon |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    if address.region:
        amazon["region"] = address.region
    return S3Store(
        address.bucket, prefix=prefix, config=amazon, client_options=options, retry_config=again
    )


def _endpoint_here(scheme: str) -> str | None:
    """Return the server address in the environment, or None.

    Raises:
        StoreError: the address holds a password.
    """
    for name in _ENDPOINTS[scheme]:
        if endpoint := os.environ.get(name):
            if "@" in endpoint:
                raise StoreError("the address of a server holds a password", where=name)
            return endpoint
    return None
