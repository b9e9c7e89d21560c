"""What a grid downloads and decodes, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.manifest import Columns, Manifest, Shard
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.traffic import Traffic, traffic
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models import ModelSpec
from tests.toy import table

FOLDER = Path("/data")
GROUP = CellGroup(
    benchmark="toy",
    model_label="net",
    setting="s",
    seed=1,
    manifests=(FOLDER,),
    roles_digest="one",
    transform=Transform(img_size=2),  # 12 bytes an image
    model=ModelSpec("resnet18_cifar", 3),
    checkpoint=None,
    precision="fp32",
    batch_size=2,
    limit=None,
    shuffle_window=None,
    cells=(),
)
ONE, TWO = GROUP, replace(GROUP, roles_digest="two", seed=2)
LARGER = replace(GROUP, transform=Transform(img_size=4))  # 48 bytes an image
ROLES = {ONE.roles_name: table("frrt"), TWO.roles_name: table("ffrrtt")}  # s000 to s003, s005


def shard(file: str, rows: int, size: int, split: str = "train") -> Shard:
    return Shard(file, split, rows, size, "", "")


def manifest(*shards: Shard, external: bool = False) -> Manifest:
    return Manifest(FOLDER, "toy", (), shards, columns=Columns(sample_id=None if external else "i"))


def of(data: Manifest, *groups: CellGroup) -> Traffic:
    return traffic([WorkOrder(group, {}, "s") for group in groups], ROLES, {FOLDER: data})


def test_an_image_is_decoded_once_for_each_transform() -> None:
    """The two tables share 4 of 6 images. 10 stored images have 1,000 bytes: 100 each."""
    data = manifest(shard("a", 6, 700), shard("b", 4, 300))
    assert of(data, ONE) == Traffic(weights=0, remote=0, images=4, encoded=400, pixels=48)
    assert of(data, ONE, TWO) == Traffic(0, 0, 6, 600, 72)
    assert of(data, TWO, LARGER) == Traffic(0, 0, 10, 1000, 6 * 12 + 4 * 48)
    assert of(data) == Traffic(0, 0, 0, 0, 0)


def test_external_files_count_if_they_hold_an_image() -> None:
    """Row groups are read whole. No image is in b, and files of one name differ by split."""
    ids = ["heldout/a.parquet:3", "train/a.parquet:0", "train/a.parquet:10", "train/c.parquet:1"]
    roles = {ONE.roles_name: replace(ROLES[ONE.roles_name], sample_ids=ids)}
    data = manifest(
        shard("s3://bucket/a.parquet?region=x", 20, 1000),
        shard("s3://bucket/b.parquet", 20, 300),
        shard("s3://bucket/held/a.parquet", 20, 50, "heldout"),
        shard("/disk/c.parquet", 20, 7),
        external=True,
    )
    found = traffic([WorkOrder(ONE, {}, "s")], roles, {FOLDER: data})
    assert found == Traffic(weights=0, remote=1050, images=4, encoded=7, pixels=48)


def test_weights_that_are_not_here_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """squeezenet1_1 of torchvision has 1,235,496 weights of 4 bytes, and no buffers.

    The head of 3 classes has 513 · 3 weights in place of 513 · 1000.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec = ModelSpec("torchvision/squeezenet1_1", 3, "IMAGENET1K_V1")
    group = replace(GROUP, model=spec)
    given = replace(group, checkpoint="weights.pth")
    data = manifest(shard("a", 10, 1000))
    assert of(data, group, replace(group, seed=2), given).weights == 4 * (1_235_496 - 513 * 997)
    file = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert of(data, group).weights == 0
