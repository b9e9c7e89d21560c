"""Clients of the servers of buckets: their settings and credentials. Needs obstore."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import GCSStore, S3Store

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects.address import Address
from lotus_ray.store.objects.retry import RetryPolicy

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("GOOGLE_BASE_URL",)}


def new_client(address: Address, retry_policy: RetryPolicy, retries: int) -> GCSStore | S3Store:
    """Return a client that itself retries a request up to `retries` times.

    With each body S3 gets its SHA-256, unless AWS_CHECKSUM_ALGORITHM names another checksum.

    Raises:
        StoreError: the address of the server, from the environment, holds a password.
    """
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
    if "AWS_CHECKSUM_ALGORITHM" not in os.environ:
        amazon["checksum_algorithm"] = "sha256"
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
