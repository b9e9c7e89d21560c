"""The address of a store in a bucket: s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, and its server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from lotus_ray.base.errors import StoreError

SCHEMES = ("s3", "gs")
KINDS = "a local or shared folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
_SETTINGS = ("endpoint_override", "region", "scheme")  # as in the addresses of data
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")
_PREFIX = re.compile(r"[A-Za-z0-9._=+,@ -]+(/[A-Za-z0-9._=+,@ -]+)*|")
_CREDENTIALS = "remove it; export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…"


@dataclass(frozen=True)
class Address:
    """Where a bucket is, and below which prefix of it a store lies. It holds no secret."""

    scheme: str
    bucket: str
    prefix: str
    endpoint: str | None = None  # with its scheme; None is the provider's own
    region: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Read an address.

        Raises:
            StoreError: it is none, or holds a password, which is not repeated.
        """
        scheme, _, rest = uri.partition("://")
        path, _, query = rest.partition("?")
        bucket, _, prefix = path.rstrip("/").partition("/")
        settings = dict(parse_qsl(query, keep_blank_values=True))
        server = settings.get("endpoint_override", "")
        # A secret may hold a slash, and so end what looks like the bucket; none has : or @.
        if any(sign in bucket for sign in ":@") or "@" in server or ":" in path:
            raise _refused("the address of the store holds a password", scheme, _CREDENTIALS)
        if scheme not in SCHEMES:
            raise _refused(f"no store for '{scheme}://'", scheme)
        if not _BUCKET.fullmatch(bucket):
            raise _refused("the address of the store names no bucket", scheme)
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise _refused("below its bucket a store is named by letters, digits, ._-=+,@/", scheme)
        if set(settings) - set(_SETTINGS):  # whose names are not repeated: one may be a secret
            raise StoreError(
                "the address of the store has a setting that it cannot have",
                where=f"{scheme}://{bucket}/{prefix}?***",
                nearest="one of " + ", ".join(_SETTINGS),
            )
        if server and "://" not in server:
            server = f"{settings.get('scheme', 'https')}://{server}"
        return cls(scheme, bucket, prefix, server or None, settings.get("region"))

    @property
    def base(self) -> str:
        """Return bucket and prefix, for people: what an object is called begins with it."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def uri(self) -> str:
        """Return the whole address."""
        settings: dict[str, str] = {}
        if self.endpoint:
            scheme, _, server = self.endpoint.partition("://")
            settings = {"scheme": scheme, "endpoint_override": server}
        if self.region:
            settings["region"] = self.region
        return f"{self.base}?{urlencode(settings, safe=':/')}" if settings else self.base


def _refused(what: str, scheme: str, next_command: str = "") -> StoreError:
    return StoreError(
        what,
        where=f"{scheme}://***",
        nearest=KINDS,
        next_command=next_command or "lotus-ray grid JOB.yaml --store s3://BUCKET/PREFIX",
    )
