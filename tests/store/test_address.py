from __future__ import annotations

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects.address import Address

SECRET = "canary91c4"


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("s3://bucket", Address("s3", "bucket", "")),
        ("s3://bucket/", Address("s3", "bucket", "")),
        ("gs://a.b-c_d/runs/one/", Address("gs", "a.b-c_d", "runs/one")),
        ("s3://bucket/my runs/a=b", Address("s3", "bucket", "my runs/a=b")),
        ("s3://bucket/r?region=eu-west-1", Address("s3", "bucket", "r", region="eu-west-1")),
        (
            "s3://bucket/r?scheme=http&endpoint_override=localhost:9000",
            Address("s3", "bucket", "r", "http://localhost:9000"),
        ),
        (
            "s3://bucket/r?endpoint_override=http://localhost:9000",
            Address("s3", "bucket", "r", "http://localhost:9000"),
        ),
        (
            "s3://bucket/r?endpoint_override=minio.lan",
            Address("s3", "bucket", "r", "https://minio.lan"),
        ),
    ],
)
def test_an_address_is_read_and_written(uri: str, address: Address) -> None:
    assert Address.parse(uri) == address
    assert Address.parse(address.uri) == address
    assert address.base == uri.partition("?")[0].rstrip("/")


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{SECRET}@bucket/runs",
        f"s3://key:a/{SECRET}@bucket/runs",
        f"s3://{SECRET}@bucket/runs",
        f"gs://key:{SECRET}@bucket",
        f"https://me:{SECRET}@host/runs",
        f"s3://bucket/runs?endpoint_override=me:{SECRET}@host",
        f"s3://bucket/runs?secret_key={SECRET}",
        f"s3://bucket/runs?{SECRET}=",
        f"s3://bucket/%2e%2e/{SECRET}",
    ],
)
def test_what_may_hold_a_password_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        Address.parse(uri)
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 5
    assert "***" in caught.value.where


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///runs", "s3://Bucket/x", "s3://b/x", "s3://bucket//x", "s3://bucket/a/../b"],
)
def test_an_address_of_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        Address.parse(uri)
    assert caught.value.nearest
    assert caught.value.next_command
