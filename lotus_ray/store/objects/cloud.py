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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects.address import Address
from lotus_ray.store.objects.checksums import md5_etag
from lotus_ray.store.objects.client import new_client
from lotus_ray.store.objects.errors import LOGIN, Fault, no_bucket, reads_back_differently
from lotus_ray.store.objects.retry import PATIENCE, RetryPolicy

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions

PART_BYTES = 8 << 20  # size of one request for a large object
LOUD_AFTER = 3  # tries before a warning: one retry is normal
_PARTS_AT_ONCE = 4
_END = object()
_log = logging.getLogger(__name__)
T = TypeVar("T")


class CloudObjects:
    """A prefix of a bucket. Credentials come from the environment or the machine's role."""

    def __init__(self, address: Address, retry_policy: RetryPolicy | None = None) -> None:
        self.address = address
        self.retry_policy = retry_policy or PATIENCE
        try:
            self._once = new_client(address, self.retry_policy, retries=0)
            self._parts = new_client(address, self.retry_policy, retries=20)
        except (BaseError, OSError, ValueError):  # the text may hold a secret
            raise StoreError(
                "an environment variable for credentials or servers is invalid",
                where=address.base,
                next_command=LOGIN[address.scheme],
            ) from None

    def read(self, name: str) -> bytes:
        """Return an object, in parts if it is large; raises FileNotFoundError."""
        return self._read(name, lambda: self._get(name))

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Return bytes of an object; raises FileNotFoundError."""

        def part() -> bytes:
            return obstore.get_range(self._once, name, start=start, length=size).to_bytes()

        return self._read(name, part)

    def _read(self, name: str, request: Callable[[], bytes]) -> bytes:
        try:
            return self._ask(name, request)
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
        self._replace(name, content)

    def replace_proven(self, name: str, content: bytes) -> None:
        """Write an object; read it back unless the server's ETag is the MD5 of what it received.

        S3 also refuses a body that does not have the SHA-256 of its request; it is sent again.
        """
        etag = self._replace(name, content)
        if etag != md5_etag(content, PART_BYTES) and self.read(name) != content:
            raise reads_back_differently(f"{self.address.base}/{name}")

    def _replace(self, name: str, content: bytes) -> str:
        """Write an object and return its ETag."""
        if len(content) <= PART_BYTES:
            return self._ask(
                name, lambda: self._put(self._once, name, content, use_multipart=False)
            )
        return self._ask(
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
            if names := list(self._list(prefix)):
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
        return list(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of objects under `prefix`, by name."""
        shown = {n: s for n, s in self._list(prefix).items() if not _is_hidden(n)}
        return dict(sorted(shown.items()))

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of the folders directly in `prefix`, each with its slash."""

        def attempt() -> list[str]:
            listing = obstore.list_with_delimiter(self._once, prefix or None)
            return sorted(f"{name}/" for name in listing["common_prefixes"])

        return self._ask(prefix, attempt)

    def _list(self, prefix: str) -> dict[str, int]:
        """Return the sizes of all objects under `prefix`, hidden ones too."""

        def attempt() -> dict[str, int]:
            pages = obstore.list(self._once, prefix)
            return {entry["path"]: entry["size"] for page in pages for entry in page}

        return self._ask(prefix, attempt)

    def _put(self, client: Any, name: str, content: bytes, **how: Any) -> str:
        """Write an object and return its ETag without quotes; empty if the server gave none."""
        try:
            return (obstore.put(client, name, content, **how)["e_tag"] or "").strip('"')
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
            with ThreadPoolExecutor(_PARTS_AT_ONCE) as readers:
                parts = [partial(part, start) for start in range(0, size, PART_BYTES)]
                return b"".join(readers.map(partial(self._ask, name), parts))
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


def _is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


class _TryAgain(Exception):
    """A reply that cannot be trusted, such as "it exists" for an object that does not."""

    def __str__(self) -> str:
        return f"status code: 409 <Code>{self.args[0]}</Code>"
