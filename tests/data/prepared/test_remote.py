"""A prepared data set in a bucket is used like its folder, and by few requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lotus_ray.base.errors import DataError
from lotus_ray.cli.main import main
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.index import INDEX
from lotus_ray.data.prepared.manifest import MANIFEST, Manifest, read_manifest
from lotus_ray.data.prepared.remote import read_remote
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, SOURCES, TRAIN
from lotus_ray.job.schema.dataset import CalibrationSet
from lotus_ray.store.objects.address import Address
from lotus_ray.store.objects.cloud import CloudObjects
from lotus_ray.store.results import Store
from tests.cloud import Proxy, Road, log_in, new_bucket
from tests.toy import Sample, source

RANDOM = np.random.default_rng(0)
CONTENT = [RANDOM.bytes(size) for size in RANDOM.integers(2000, 4000, 400)]


@dataclass
class Far:
    """A data set in a folder, the same one in a bucket, and what is asked of the bucket."""

    near: Manifest
    address: str
    objects: CloudObjects
    proxy: Proxy

    def gets(self) -> list[str]:
        """Return the path of each request for content, without its query."""
        return [path.partition("?")[0] for verb, path, _ in self.proxy.requests if verb == "GET"]


@pytest.fixture
def far(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Far]:
    """400 images of 2 to 4 kB in four shards of train and one of heldout."""
    log_in(monkeypatch)
    monkeypatch.setattr("lotus_ray.data.prepared.write.ROWS_PER_SHARD", 80)
    monkeypatch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 32)
    samples = [
        Sample(f"s{n:03d}", TRAIN if n < 320 else HELDOUT, image, "", n % 2)
        for n, image in enumerate(CONTENT)
    ]
    near = prepare(source(samples), tmp_path / "near")
    with ExitStack() as stack:
        proxy = Proxy(moto, Road())
        server = stack.enter_context(proxy.running())
        address = f"s3://{new_bucket(moto)}/sets/toy?scheme=http&endpoint_override={server}"
        objects = CloudObjects(Address.parse(address))
        upload(near.directory, objects)
        proxy.requests.clear()
        yield Far(near, address, objects, proxy)


def upload(folder: Path, objects: CloudObjects) -> None:
    for path in folder.iterdir():
        objects.replace(path.name, path.read_bytes())


def roles_of(rows: list[int]) -> Roles:
    names = [f"s{row:03d}" for row in rows]
    return Roles(names, np.array(rows) % 2, np.zeros(len(rows), np.int8), 2)


def images(manifest: Manifest, rows: list[int]) -> dict[str, bytes]:
    return {
        sample_id: image
        for row_group in wanted_row_groups([manifest.directory], roles_of(rows))
        for encoded in row_group.read()
        for sample_id, image in zip(encoded.sample_ids, encoded.images, strict=True)
    }


def test_it_is_the_same_data_set(far: Far, tmp_path: Path) -> None:
    """Manifest and index are read once; no shard is opened to look through its rows."""
    there = read_remote(far.address, tmp_path / "made")
    assert there.is_remote
    assert there.digest == far.near.digest
    assert read_labels(there).equals(read_labels(far.near))
    assert read_manifest(there.directory) == there
    assert {path.rsplit("/", 1)[-1] for path in far.gets()} == {MANIFEST, INDEX}


def test_another_command_may_read_the_older_copies(far: Far, tmp_path: Path) -> None:
    """Writing into a file that is mapped into memory would end the process that reads it."""
    folder = read_remote(far.address, tmp_path / "made").directory
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    with ExitStack() as stack:
        held = {path: stack.enter_context(path.open("rb")) for path in before}
        read_remote(far.address, tmp_path / "made")
        for path, (inode, content) in before.items():
            assert path.stat().st_ino != inode
            assert held[path].read() == path.read_bytes() == content
    assert [path.name for path in (tmp_path / "made").iterdir()] == [folder.name]


@pytest.mark.parametrize("step", [1, 7])
def test_images_are_read_in_place(far: Far, tmp_path: Path, step: int) -> None:
    """All of them, and each seventh: images near to each other by one request."""
    there = read_remote(far.address, tmp_path / "made")
    far.proxy.requests.clear()
    rows = list(range(0, 400, step))
    assert images(there, rows) == {f"s{row:03d}": CONTENT[row] for row in rows}
    assert 20 * len(far.gets()) <= len(CONTENT)


def test_without_an_index_the_shards_are_looked_through(far: Far, tmp_path: Path) -> None:
    """As in data sets of earlier versions."""
    address = far.address.replace("/toy?", "/old?")
    objects = CloudObjects(Address.parse(address))
    (far.near.directory / INDEX).unlink()
    upload(far.near.directory, objects)
    there = read_remote(address, tmp_path / "made")
    assert not (there.directory / INDEX).exists()
    assert read_labels(there).equals(read_labels(far.near))
    assert images(there, [3, 399]) == {"s003": CONTENT[3], "s399": CONTENT[399]}


def test_an_index_of_other_images_is_refused(far: Far, tmp_path: Path) -> None:
    samples = [Sample(f"s{n:03d}", TRAIN, CONTENT[-n], "", n % 2) for n in range(320)]
    other = prepare(source(samples), tmp_path / "other")
    far.objects.replace(INDEX, (other.directory / INDEX).read_bytes())
    there = read_remote(far.address, tmp_path / "made")
    with pytest.raises(DataError, match="the index of the data set is damaged: ids, labels or"):
        read_labels(there)


def test_an_image_that_changed_is_named(far: Far, tmp_path: Path) -> None:
    there = read_remote(far.address, tmp_path / "made")
    [row_group] = wanted_row_groups([there.directory], roles_of([5]))
    assert row_group.offsets is not None
    name = row_group.uri.partition("?")[0].rsplit("/", 1)[-1]
    content = bytearray(far.objects.read(name))
    content[int(row_group.offsets[0, 0]) + 100] ^= 1
    far.objects.replace(name, bytes(content))
    with pytest.raises(DataError, match="an image changed") as caught:
        list(row_group.read())
    assert caught.value.where.startswith(f"sample s005 (s3://{far.objects.address.bucket}/sets/")


def test_what_is_not_there_is_said(far: Far, tmp_path: Path) -> None:
    address = far.address.replace("/toy?", "/nothing?")
    with pytest.raises(DataError, match="no prepared data set here") as caught:
        read_remote(address, tmp_path / "made")
    assert (caught.value.where, caught.value.exit_code) == (address, 3)
    far.objects.replace(MANIFEST, b"{}")
    with pytest.raises(DataError, match="the manifest cannot be read") as caught:
        read_remote(far.address, tmp_path / "made")
    assert caught.value.where.startswith("s3://")


def test_a_calibration_set_is_read_from_a_folder() -> None:
    assert CalibrationSet(manifest="data/synthetic").manifest == "data/synthetic"
    with pytest.raises(ValueError, match="a calibration set must be a folder"):
        CalibrationSet(manifest="s3://bucket/synthetic")


def test_a_grid_has_the_rows_that_it_has_of_the_folder(
    moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Cell ids too: nothing but the content of a data set decides them."""
    log_in(monkeypatch)
    near = prepare(SOURCES["digits"], tmp_path / "digits")
    address = f"s3://{new_bucket(moto)}/digits?scheme=http&endpoint_override={moto}"
    upload(near.directory, CloudObjects(Address.parse(address)))
    rows = {}
    for name, manifest in (("near", str(near.directory)), ("far", address)):
        arguments = ["grid", str(Path(__file__).parents[3] / "jobs/digits.yaml"), "--local"]
        arguments += ["--store", str(tmp_path / name), "--limit", "40"]
        for value in (
            f"grid.datasets.0.manifest='{manifest}'",
            "grid.methods=[finetune]",
            "epochs=1",
            "grid.models.0.options={width: 2}",
            "grid.models.0.train={epochs: 1}",
        ):
            arguments += ["--set", value]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.stderr
        found = Store.open(str(tmp_path / name)).rows()
        rows[name] = {cell_id: (row.status, row.metrics) for cell_id, row in found.items()}
    assert len(rows["near"]) == 2
    assert rows["near"] == rows["far"]
