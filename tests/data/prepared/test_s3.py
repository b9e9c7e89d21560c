"""Parquet of somebody else in a bucket: found, identified, checked and read there.

The bucket is moto's, on this machine; the writer is boto3, the reader pyarrow.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lotus_ray.base.errors import DataError
from lotus_ray.cli.main import main
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared import check
from lotus_ray.data.prepared.external import read_external
from lotus_ray.data.prepared.manifest import Columns, read_manifest
from lotus_ray.data.prepared.parquet import list_parquet
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.store.results import Store
from tests.data.prepared.test_external import write
from tests.toy import PLAIN, read_pixels

pytest.importorskip("moto")
boto3 = pytest.importorskip("boto3")

JOB = Path(__file__).parents[3] / "jobs" / "digits.yaml"
THEIRS = Columns("img", "fine_label", sample_id=None)
KEY, SECRET = "testing-key", "testing-secret"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield f"127.0.0.1:{running.get_host_and_port()[1]}"
    running.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def client(server: str, credentials: None) -> Any:
    return boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1")


@pytest.fixture
def bucket(client: Any, tmp_path: Path) -> str:
    """A bucket of three files; row i of each shows the grey value of its first row + i."""
    name = f"pictures-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    for key, first, labels in (
        ("data/train-0.parquet", 0, [0, 1, 1]),
        ("data/train-1.parquet", 10, [1, 0]),
        ("data/held out/part.parquet", 20, [0, 1, 0]),
    ):
        write(tmp_path / "local", first, labels, ["cat", "dog"])
        client.put_object(Bucket=name, Key=key, Body=(tmp_path / "local").read_bytes())
    client.put_object(Bucket=name, Key="data/README.md", Body=b"no Parquet")
    return name


@pytest.fixture(params=["environment", "address"])
def query(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: str) -> str:
    """What is added to an address: nothing where the environment names the server."""
    if request.param == "address":
        return f"?scheme=http&endpoint_override={server}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    return ""


def test_files_are_found_by_path_folder_and_pattern(bucket: str, query: str) -> None:
    root = f"s3://{bucket}/data"
    train = [f"{root}/train-{n}.parquet{query}" for n in (0, 1)]
    held = f"{root}/held%20out/part.parquet{query}"
    assert list_parquet(train[1]) == [train[1]]
    assert list_parquet(f"{root}/train-*.parquet{query}") == train
    assert list_parquet(f"s3://{bucket}/*/train-*{query}") == train
    for folder in (f"{root}/held%20out{query}", f"{root}/held%20out/{query}"):
        assert list_parquet(folder) == [held]
    assert list_parquet(f"{root}/held%20out/*.parquet{query}") == [held]
    assert list_parquet(f"s3://{bucket}/{query}") == sorted([held, *train])
    for nowhere in (f"{root}/none{query}", f"{root}/test-*{query}", f"s3://no-{bucket}/x{query}"):
        with pytest.raises(DataError) as raised:
            list_parquet(nowhere)
        assert raised.value.where == nowhere


def test_images_are_read_from_a_bucket(bucket: str, query: str, tmp_path: Path) -> None:
    patterns = {
        TRAIN: [f"s3://{bucket}/data/train-*.parquet{query}"],
        HELDOUT: [f"s3://{bucket}/data/held%20out/{query}"],
    }
    made = read_external(patterns, THEIRS, None, tmp_path / "manifest")
    assert made.classes == ("cat", "dog")
    assert [shard.rows for shard in made.shards] == [3, 2, 3]
    labels = check.read_labels(read_manifest(made.directory))
    assert [(row["sample_id"], row["label"]) for row in labels.to_pylist()] == [
        ("heldout/part.parquet:0", 0),
        ("heldout/part.parquet:1", 1),
        ("heldout/part.parquet:2", 0),
        ("train/train-0.parquet:0", 0),
        ("train/train-0.parquet:1", 1),
        ("train/train-0.parquet:2", 1),
        ("train/train-1.parquet:0", 1),
        ("train/train-1.parquet:1", 0),
    ]
    wanted = ["heldout/part.parquet:2", "train/train-0.parquet:2", "train/train-1.parquet:0"]
    roles = Roles(wanted, np.array([0, 1, 1]), np.array([2, 0, 1], np.int8), 2)
    found = read_pixels(wanted_row_groups([made.directory], roles), roles, PLAIN)
    assert found[:, 0, 0, 0].tolist() == [22, 2, 10]


def test_a_changed_object_is_another_data_set(
    bucket: str, query: str, client: Any, tmp_path: Path
) -> None:
    patterns = {TRAIN: [f"s3://{bucket}/data/train-*.parquet{query}"]}
    before = read_external(patterns, THEIRS, None, tmp_path / "a")
    write(tmp_path / "other", 10, [0, 0], None)
    content = (tmp_path / "other").read_bytes()
    client.put_object(Bucket=bucket, Key="data/train-1.parquet", Body=content)
    after = read_external(patterns, THEIRS, None, tmp_path / "b")
    assert after.digest != before.digest
    with pytest.raises(DataError, match="changed since"):
        check.read_labels(before)
    client.put_object(Bucket=bucket, Key="data/train-1.parquet", Body=content[:-9])
    with pytest.raises(DataError, match="it is torn") as raised:
        read_external(patterns, THEIRS, None, tmp_path / "c")
    assert raised.value.where == f"s3://{bucket}/data/train-1.parquet{query}"


def test_an_object_that_is_gone_is_a_data_error(
    bucket: str, query: str, client: Any, tmp_path: Path
) -> None:
    uri = f"s3://{bucket}/data/train-1.parquet{query}"
    made = read_external({TRAIN: [uri]}, THEIRS, None, tmp_path / "a")
    client.delete_object(Bucket=bucket, Key="data/train-1.parquet")
    with pytest.raises(DataError, match="the Parquet file cannot be read") as raised:
        check.read_labels(made)
    assert raised.value.where == uri


@pytest.mark.parametrize("pattern", ["s3://{}:{}@bucket/x", "s3://{}:a/{}@bucket/x-*.parquet"])
def test_a_password_in_an_address_is_refused_and_not_repeated(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an address of data holds a password") as raised:
        read_external({TRAIN: [pattern.format(KEY, SECRET)]}, THEIRS, None, tmp_path / "m")
    assert SECRET not in str(raised.value)
    assert raised.value.where == "s3://***"
    assert not (tmp_path / "m").exists()


def test_a_job_runs_on_a_bucket_and_records_no_secret(
    client: Any, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    client.create_bucket(Bucket="job")
    for name, first, count in (("train", 0, 40), ("test", 100, 20)):
        write(tmp_path / "local", first, [n % 2 for n in range(count)], ["even", "odd"])
        content = (tmp_path / "local").read_bytes()
        client.put_object(Bucket="job", Key=f"{name}/0.parquet", Body=content)
    dataset = {
        "name": "Theirs",
        "parquet": {
            "train": ["s3://job/train/*.parquet"],
            "heldout": ["s3://job/test/"],
            "image": "img",
            "label": "fine_label",
        },
        "forget": {"per_class": 3},
        "img_size": 8,
    }
    arguments = ["grid", str(JOB), "--local", "--store", str(tmp_path / "store")]
    for value in (
        f"grid.datasets=[{json.dumps(dataset)}]",
        "grid.methods=[finetune]",
        "epochs=1",
        "grid.models.0.options={width: 2}",
        "grid.models.0.train={epochs: 1}",
    ):
        arguments += ["--set", value]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    rows = Store.open(str(tmp_path / "store")).rows()
    assert [row.status for row in rows.values()] == ["ok", "ok"]
    unchecked = "not checked: images that occur twice (files read in place)"
    assert all(row.data_notes == [unchecked] for row in rows.values())
    assert f"note: Theirs, instance_3perclass, seed 3407: {unchecked}" in result.stderr
    written = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(written) > 4
    assert not [p for p in written if SECRET.encode() in p.read_bytes()]
    client.delete_object(Bucket="job", Key="test/0.parquet")
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 3
    assert "s3://job/test/" in again.stderr
