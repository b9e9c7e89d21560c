"""Why a bucket's server refused a request: whether to retry, and what the user can do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.store.objects.address import Address

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_PASSING = {408, 409, 423, 425, 429}  # client errors after which a retry may succeed
_PASSING_CODES = {
    "RequestTimeout",
    "OperationAborted",
    "NoSuchUpload",
    # The body that arrived has another checksum than the one that was sent: it was damaged.
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_REGION_CODES = {"AuthorizationHeaderMalformed", "PermanentRedirect"}
_LOGIN_CODES = {"ExpiredToken", "InvalidToken"}
_REGION = "the bucket is in another region"
_NO_LOGIN = "this machine has no credentials, or cannot fetch them"
LOGIN = {
    "s3": "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…, or give the machine a role",
    "gs": "export GOOGLE_APPLICATION_CREDENTIALS=FILE, or give the machine a service account",
}


@dataclass(frozen=True)
class Fault:
    """One failed request.

    Only the status and code of the reply are kept: the rest may hold the key that signed the
    request.
    """

    status: int | None
    code: str
    reason: str

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """Read the error text of the client library."""
        text = str(error)
        status, code = _STATUS.search(text), _CODE.search(text)
        return cls(int(status[1]) if status else None, code[1] if code else "", _reason(text))

    @property
    def passes(self) -> bool:
        """True if the same request may succeed later."""
        if self.reason == _REGION or self.code in _REGION_CODES:
            return False
        if self.status is None or self.status >= 500 or self.code in _PASSING_CODES:
            return True
        return self.status in _PASSING and self.reason != _NO_LOGIN

    @property
    def summary(self) -> str:
        """The fault in a few words, without any part of the address or the request."""
        if self.status is None or self.reason == _NO_LOGIN:
            return self.reason
        return f"HTTP {self.status} {self.code}".strip()

    def refusal(self, address: Address, name: str) -> StoreError:
        """Return the error for a request that cannot succeed."""
        if self.code == "NoSuchBucket":
            return no_bucket(address)
        command = "lotus-ray grid JOB.yaml --store s3://BUCKET/PREFIX"
        if self.reason == _REGION or self.code in _REGION_CODES:
            command = "export AWS_REGION=…, or add ?region=… to the address"
        elif self.reason == _NO_LOGIN or self.status in (401, 403) or self.code in _LOGIN_CODES:
            command = LOGIN[address.scheme]
        return StoreError(
            f"the store refuses: {self.summary}",
            where=f"{address.base}/{name}",
            next_command=command,
        )

    def end(self, address: Address, name: str, tries: int, seconds: float) -> StoreUnreachable:
        """Return the error for a request that failed after all retries.

        Args:
            address: of the store.
            name: of the object.
            tries: number of requests.
            seconds: from the first to the last.
        """
        return StoreUnreachable(
            f"the store does not answer as it should: {self.summary}, {tries} times in "
            f"{seconds:.0f} seconds",
            where=f"{address.base}/{name}",
            next_command="run the same command again: committed cells are kept",
        )


def no_bucket(address: Address) -> StoreError:
    """Return the error for a bucket that does not exist."""
    return StoreError(
        "there is no such bucket",
        where=f"{address.scheme}://{address.bucket}",
        next_command="lotus-ray grid JOB.yaml --store s3://BUCKET/PREFIX",
    )


def reads_back_differently(where: str) -> StoreError:
    """Return the error for an object that holds other bytes than were written."""
    return StoreError(
        "an object reads back differently: it was damaged on its way to the store, or there",
        where=where,
        next_command="run the same command again: committed cells are kept",
    )


def _reason(text: str) -> str:
    """Return a short phrase for an error without HTTP status."""
    head, _, details = text.partition("\n\nDebug source")
    if "incorrectly configured region" in head:
        return _REGION
    if "http://169.254." in head or "metadata.google" in head or "token request" in head:
        return _NO_LOGIN
    if "kind: Timeout" in details:
        return "it took too long"
    if "kind: Connect" in details:
        return "no connection"
    return "the connection broke"
