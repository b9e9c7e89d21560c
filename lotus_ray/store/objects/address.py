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
    """The bucket, server and prefix of a store. It holds no secret."""

    scheme: str
    bucket: str
    prefix: str
    endpoint: str | None = None  # with its scheme; None is the provider's own
    region: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Read an address.

        Raises:
            StoreError: the address is invalid, or holds a password. The error does not repeat it.
        """
        scheme, _, rest = uri.partition("://")
        path, _, query = rest.partition("?")
        bucket, _, prefix = path.rstrip("/").partition("/")
        settings = dict(parse_qsl(query, keep_blank_values=True))
        server = settings.get("endpoint_override", "")
        # A secret may hold a slash: then the bucket seems to end there. No bucket has : or @.
        if any(sign in bucket for sign in ":@") or "@" in server or ":" in path:
            raise _refused("the address of the store holds a password", scheme, _CREDENTIALS)
        if scheme not in SCHEMES:
            raise _refused(f"no store for '{scheme}://'", scheme)
        if not _BUCKET.fullmatch(bucket):
            raise _refused("the address of the store has no valid bucket name", scheme)
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise _refused("a prefix may contain only letters, digits, spaces and ._-=+,@/", scheme)
        if set(settings) - set(_SETTINGS):  # do not repeat the names: one may be a secret
            raise StoreError(
                "the address of the store has an unknown setting",
                where=f"{scheme}://{bucket}/{prefix}?***",
                nearest="one of " + ", ".join(_SETTINGS),
            )
        if server and "://" not in server:
            server = f"{settings.get('scheme', 'https')}://{server}"
        return cls(scheme, bucket, prefix, server or None, settings.get("region"))

    @property
    def base(self) -> str:
        """Bucket and prefix, for people: addresses of objects begin with it."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def uri(self) -> str:
        """The full address, with its settings."""
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
