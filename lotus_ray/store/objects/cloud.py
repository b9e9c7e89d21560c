"""Objects in a bucket of S3, of a server that speaks like it, or of Google. Needs obstore.

The library makes each request once; asking again is done here, where a reply that was lost can be
told from an object of somebody else. Only the parts of a large object are repeated by the library.
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

PART_BYTES = 8 << 20  # what one request moves of a large object
LOUD_AFTER = 3  # tries: more than one is nothing unusual
_PARTS_AT_ONCE = 4
_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("GOOGLE_BASE_URL",)}
_END = object()
_log = logging.getLogger(__name__)
T = TypeVar("T")


class CloudObjects:
    """A prefix of a bucket. Who asks is said by the environment, or by the machine's role."""

    def __init__(self, address: Address, retry_policy: RetryPolicy | None = None) -> None:
        self.address = address
        self.retry_policy = retry_policy or PATIENCE
        try:
            self._once = _client(address, self.retry_policy, retries=0)
            self._parts = _client(address, self.retry_policy, retries=20)
        except (BaseError, OSError, ValueError):  # whose text may hold what it complains of
            raise StoreError(
                "the environment says something about credentials or servers that is not usable",
                where=address.base,
                next_command=LOGIN[address.scheme],
            ) from None

    def read(self, name: str) -> bytes:
        """Return an object, part by part where it is large; raises FileNotFoundError."""
        try:
            return self._ask(name, lambda: self._get(name))
        except FileNotFoundError:
            where = f"{self.address.base}/{name}"
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from None

    def create(self, name: str, content: bytes) -> bool:
        """Create an object by a request that succeeds only where there is none.

        Where the server says that there is one, it may be our own: a reply was lost, and the
        request repeated. Or there may be none after all: two requests met, and neither succeeded.
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
        """Write an object; of a large one each part is repeated until it has arrived."""
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
        """Remove what lies below a folder name; what may not be removed stays."""
        with suppress(StoreError, FileNotFoundError):
            if names := self._list(prefix):
                self._ask(prefix, lambda: obstore.delete(self._once, names))

    def etag(self, name: str) -> str | None:
        """Return the ETag of an object, and its row version where it has one."""
        try:
            found = self._ask(name, lambda: obstore.head(self._once, name))
        except FileNotFoundError:
            return None
        return f"{found['e_tag']} {found['version'] or ''}".strip()

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names below a folder name."""
        return sorted(n for n in self._list(prefix) if not n.rpartition("/")[2].startswith("."))

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of what objects right below a folder name have in common."""

        def attempt() -> list[str]:
            found = obstore.list_with_delimiter(self._once, prefix or None)
            return sorted(f"{name}/" for name in found["common_prefixes"])

        return self._ask(prefix, attempt)

    def _list(self, prefix: str) -> list[str]:
        def attempt() -> list[str]:
            return [found["path"] for page in obstore.list(self._once, prefix) for found in page]

        return self._ask(prefix, attempt)

    def _put(self, client: Any, name: str, content: bytes, **how: Any) -> None:
        try:
            obstore.put(client, name, content, **how)
        except FileNotFoundError as error:
            fault = Fault.of(error)
            if fault.passes:  # the reply to the end of an upload in parts was lost
                raise _TryAgain(fault.code) from None
            raise no_bucket(self.address) from None

    def _get(self, name: str) -> bytes:
        found = obstore.get(self._once, name)
        size, etag = found.meta["size"], found.meta["e_tag"]
        if size <= PART_BYTES:
            return found.bytes().to_bytes()
        del found  # and its connection

        def part(start: int) -> Bytes:
            how: GetOptions = {"range": (start, min(start + PART_BYTES, size)), "if_match": etag}
            return obstore.get(self._once, name, options=how).bytes()

        try:
            starts = range(0, size, PART_BYTES)
            return b"".join(self._ask(name, partial(part, start)) for start in starts)
        except PreconditionError:
            raise _TryAgain("ReplacedWhileRead") from None

    def _ask(self, name: str, request: Callable[[], T]) -> T:
        """Make a request until it is answered, or patience ends.

        Raises:
            FileNotFoundError: there is no such object.
            PreconditionError: it is another than was asked for.
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
                _log.warning("%s: %s; asking again", self.address.base, fault.said)
            if next(pauses, _END) is _END:
                raise fault.end(self.address, name, tries, time.monotonic() - start)
        raise AssertionError("unreachable")


class _TryAgain(Exception):
    """An answer that says nothing, such as "it exists" of an object that does not."""

    def __str__(self) -> str:
        return f"status code: 409 <Code>{self.args[0]}</Code>"


def _client(address: Address, retry_policy: RetryPolicy, retries: int) -> GCSStore | S3Store:
    """Return a client that repeats a request so many times by itself."""
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
    """Return the server that the environment names, or None.

    Raises:
        StoreError: its address holds a password.
    """
    for name in _ENDPOINTS[scheme]:
        if endpoint := os.environ.get(name):
            if "@" in endpoint:
                raise StoreError("the address of a server holds a password", where=name)
            return endpoint
    return None
