"""What a group works on: every image once, bad ones left out, streaming where there is no room."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

from lotus_ray.base.errors import DataError
from lotus_ray.cli.main import main
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.shares import Shares
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.decode_task import decode_here
from lotus_ray.data.pixels.lookup import Pixels, StreamedPixels, stream_here
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial.images import Decoders, TrialImages, prepare_images
from lotus_ray.unlearning.contract import Batch, Workers
from tests.data.batches.test_shares import on_workers
from tests.toy import PLAIN, Sample, png, reseal, source, table

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
DECODERS = Decoders(decode_here, stream_here)
pytestmark = pytest.mark.usefixtures("no_page")


class _Group:
    """What `gather` asks of a group."""

    def __init__(self, manifest: Manifest, window: int | None = None) -> None:
        self.manifests = (manifest.directory,)
        self.transform = PLAIN
        self.shuffle_window = window


def group(*arguments: Any) -> Any:
    return _Group(*arguments)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six images s000 … s005 of which s002 is none."""
    content = [png(np.full((2, 2, 3), 10 * n, np.uint8)) for n in range(6)]
    content[2] = b"text"
    samples = [Sample(f"s{n:03d}", TRAIN, one, "", 0) for n, one in enumerate(content)]
    return prepare(source(samples, ("a",)), tmp_path / "data")


def test_images_that_cannot_be_decoded_play_no_role(manifest: Manifest, tmp_path: Path) -> None:
    cache_space = CacheSpace(10_000, 0, str(tmp_path))
    with cache_space.locked():
        found = prepare_images(group(manifest), table("frrrut"), cache_space, DECODERS, max_bad=1)
        cache_space.clear()
    assert found.roles.sample_ids == ["s000", "s001", "s003", "s004", "s005"]
    assert list(found.bad) == ["s002"]
    assert [found.pixels.image(row)[0, 0, 0] for row in range(5)] == [0, 10, 30, 40, 50]  # type: ignore[union-attr]
    assert sorted(found.stored.tolist()) == [0, 1, 2, 3, 4]
    assert (found.newly_decoded(), found.newly_decoded()) == (6, 0)


def test_data_sets_with_the_same_ids_keep_their_own_images(tmp_path: Path) -> None:
    """Two data sets name their images alike; the second one is decoded for itself."""
    cache_space, found = CacheSpace(10_000, 0, str(tmp_path)), []
    with cache_space.locked():
        for value in (10, 200):
            image = png(np.full((2, 2, 3), value, np.uint8))
            samples = [Sample(f"s{n:03d}", TRAIN, image, "", 0) for n in range(4)]
            made = prepare(source(samples, ("a",)), tmp_path / f"data{value}")
            pixels = prepare_images(group(made), table("frut"), cache_space, DECODERS).pixels
            assert isinstance(pixels, Pixels)
            found.append([pixels.image(row)[0, 0, 0] for row in range(4)])
        cache_space.clear()
    assert found == [[10] * 4, [200] * 4]


def test_bad_images_are_not_left_out_where_some_stream(manifest: Manifest, tmp_path: Path) -> None:
    """It would show only in the middle of an epoch, and not alike on all nodes."""
    cache_space = CacheSpace(60, 0, str(tmp_path))
    with cache_space.locked():
        with pytest.raises(DataError, match="only if all images fit"):
            prepare_images(group(manifest, 1), table("frrrrr"), cache_space, DECODERS, max_bad=1)
        cache_space.clear()


def test_a_sample_that_is_not_stored_is_an_error(manifest: Manifest, tmp_path: Path) -> None:
    cache_space = CacheSpace(10_000, 0, str(tmp_path))
    with cache_space.locked(), pytest.raises(DataError, match="s006 is there 0 times"):
        prepare_images(group(manifest), table("frrrutt"), cache_space, DECODERS)


def test_retained_images_stream_where_there_is_no_cache_space(
    manifest: Manifest, tmp_path: Path
) -> None:
    """12 bytes each: the one to forget fits beside 3 windows of 1, and none of the others."""
    roles = replace(table("frrrr"), sample_ids=["s000", "s001", "s003", "s004", "s005"])
    cache_space = CacheSpace(59, 0, str(tmp_path))
    with cache_space.locked():
        found = prepare_images(group(manifest, 1), roles, cache_space, DECODERS)
        assert isinstance(found.pixels, StreamedPixels)
        cache_space.clear()
    small = CacheSpace(40, 0, str(tmp_path))
    with small.locked(), pytest.raises(DataError, match="shuffle_window"):
        prepare_images(group(manifest), roles, small, DECODERS)
    roomy = CacheSpace(10_000, 0, str(tmp_path))
    with roomy.locked():
        assert isinstance(prepare_images(group(manifest, 4), roles, roomy, DECODERS).pixels, Pixels)
        roomy.clear()


def test_each_of_two_nodes_keeps_its_part_and_the_batches_are_those_of_one(tmp_path: Path) -> None:
    """24 images of 12 bytes, of which 20 may stream. A node has room for 3 windows of 2 and 16.

    So it holds the 4 that cannot stream and all of its own; the others of the row group do not fit.
    """
    content = np.random.default_rng(0).integers(0, 256, (24, 2, 2, 3), dtype=np.uint8)
    samples = [Sample(f"s{n:03d}", TRAIN, png(one), "", 0) for n, one in enumerate(content)]
    data = prepare(source(samples, ("a",)), tmp_path / "data")
    roles, spaces = table("ff" + "r" * 20 + "ut"), list[CacheSpace]()

    def images(workers: Workers, room: int) -> TrialImages:
        scratch = tmp_path / f"{workers.rank}-{workers.size}"
        scratch.mkdir()
        space = CacheSpace(room, 0, str(scratch))
        spaces.append(space)
        locks.enter_context(space.locked())
        return prepare_images(group(data, 2), roles, space, DECODERS, workers=workers)

    def dataset(workers: Workers, found: TrialImages, shares: Shares | None) -> ImageDataset:
        return ImageDataset(
            found.pixels,
            found.roles,
            PLAIN,
            5,
            torch.device("cpu"),
            torch.float64,
            workers,
            found.stored,
            2,
            shares,
        )

    def one_node(workers: Workers) -> tuple[TrialImages, list[Batch], list[Batch]]:
        found = images(workers, 72 + 16 * 12)
        shares = Shares.agreed(workers, found.pixels.held, found.stored, torch.device("cpu"))
        made = dataset(workers, found, shares).split("forget", "retain")
        epoch, before = list(made.shuffled(8, "train", 0)), found.streamed
        everything = list(made)
        assert found.streamed == before  # each evaluates what it holds
        return found, epoch, everything

    with ExitStack() as locks:
        alone = images(Workers(), 10_000)
        whole = dataset(Workers(), alone, None).split("forget", "retain")
        (one, first, evaluated), (other, second, others) = on_workers((0, 1), one_node)
        for space in spaces:
            space.clear()
    assert one.pixels.held.sum() + other.pixels.held.sum() == 2 * 4 + 20
    assert (one.pixels.held | other.pixels.held).all()
    streamed = [
        sum(int((~found.pixels.held[batch.rows.numpy()]).sum()) for batch in epoch)
        for found, epoch in ((one, first), (other, second))
    ]
    assert [one.streamed, other.streamed] == streamed
    assert sum(streamed) < 6  # what a batch holds of one node beyond its half; plain shares: 10
    for shares, batch in zip(
        zip(first, second, strict=True), whole.shuffled(8, "train", 0), strict=True
    ):
        rows = torch.cat([share.rows for share in shares])
        assert rows.sort().values.tolist() == batch.rows.sort().values.tolist()
        pixels = torch.cat([share.images for share in shares])[rows.argsort()]
        assert torch.equal(pixels, batch.images[batch.rows.argsort()])
    seen = torch.cat([batch.rows for batch in (*evaluated, *others)])
    assert seen.sort().values.tolist() == list(range(22))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rows(store: Path) -> dict[str, Row]:
    return {row.method: row for row in Store.open(str(store)).rows().values()}


QUICK = (
    *("--set", "epochs=1", "--set", "grid.models.0.options={width: 2}"),
    *("--set", "grid.models.0.train={epochs: 2, batch_size: 64}", "--set", "batch_size=50"),
    *(
        "--set",
        "grid.methods=[original, gold, neggrad_plus, scrub, unsir, {name: lotus, alpha: 8}]",
    ),
    "--local",
)


def test_a_grid_gives_the_same_weights_whether_its_images_stream_or_are_here(
    tmp_path: Path,
) -> None:
    """With room for 700 of 1,797 digits of 192 bytes beside the windows, and for all."""
    window = ("--set", "dataset.shuffle_window=128")
    tight = ("--set", f"resources.decoded_memory_gb={(700 + 3 * 128) * 192 / 2**30}")
    none = ("--set", "resources.decoded_disk_gb=0")
    for name, options in (("here", window), ("streamed", (*window, *tight, *none))):
        result = run("grid", JOB, *QUICK, *options, "--store", tmp_path / name)
        assert result.exit_code == 0, result.output
    here, streamed = rows(tmp_path / "here"), rows(tmp_path / "streamed")
    assert len(here) == 6
    for method, row in here.items():
        assert streamed[method].cell_id == row.cell_id
        weights = (r.artifacts[WEIGHTS].sha256 for r in (streamed[method], row))
        assert len(set(weights)) == 1, method
        assert streamed[method].metrics == row.metrics
    decoded = {method: row.counters["images_decoded"] for method, row in streamed.items()}
    assert sum(row.counters["images_decoded"] for row in here.values()) == 1797
    assert all(count > 1000 for count in decoded.values())  # each epoch decodes what streams


def test_an_order_in_windows_is_another_cell(tmp_path: Path) -> None:
    command = ("grid", JOB, "--dry-run", "--json", "--store", tmp_path / "none")
    one, two = (
        {cell["cell_id"] for cell in json.loads(run(*command, *options).stdout)["cells"]}
        for options in ((), ("--set", "dataset.shuffle_window=128"))
    )
    assert one.isdisjoint(two)
    assert len(one) == len(two) > 0


def test_without_cache_space_the_command_says_what_to_do(tmp_path: Path) -> None:
    none = ("--set", "resources.decoded_memory_gb=0", "--set", "resources.decoded_disk_gb=0")
    result = run("grid", JOB, *QUICK, *none, "--store", tmp_path / "store")
    assert result.exit_code == 3
    assert "decoded images need 345024 bytes" in result.stderr
    assert "resources.decoded_memory_gb" in result.stderr
    assert not (tmp_path / "store" / "rows").exists()


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A data set of 60 images, of which two training images are no images."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3))
    samples = [
        Sample(
            f"s{n:03d}",
            TRAIN if n < 40 else HELDOUT,
            png(noise[n]),
            "",
            n % 2,
        )
        for n in range(60)
    ]
    made = prepare(source(samples), tmp_path / "data")
    for shard in made.shards:
        path = Path(made.uri(shard))
        content = pq.read_table(path).to_pylist()
        for row in content:
            if row["sample_id"] in ("s003", "s017"):
                row["image"]["bytes"] = b"no image"
                row["sha256"] = hashlib.sha256(b"no image").digest()
        pq.write_table(pq.read_table(path).from_pylist(content, pq.read_schema(path)), path)
    reseal(made)
    return tmp_path / "data"


def test_bad_images_are_left_out_and_listed_in_every_row(spoilt: Path, tmp_path: Path) -> None:
    forget = tmp_path / "forget.txt"
    forget.write_text("s000\ns001\ns005\ns006\n")
    data = f"{{name: S, manifest: {spoilt}, img_size: 8, forget: {{ids: {forget}}}}}"
    arguments = ["grid", JOB, *QUICK, "--set", f"grid.datasets=[{data}]", "--store", tmp_path / "s"]
    refused = run(*arguments)
    assert refused.exit_code == 3
    assert "an image cannot be decoded" in refused.stderr
    assert not (tmp_path / "s" / "rows").exists()
    one = run(*arguments, "--max-bad-images", 1)
    assert one.exit_code == 3
    assert "2 images cannot be decoded; 1 are allowed" in one.stderr
    assert run(*arguments, "--max-bad-images", 2).exit_code == 0
    for row in rows(tmp_path / "s").values():
        assert sorted(row.bad_images) == ["s003", "s017"]
        assert "s003" in row.bad_images["s003"]
        assert row.counters["unique_images"] == 58
    forget.write_text("s000\ns001\ns003\ns006\n")
    never = run(*arguments, "--max-bad-images", 2)
    assert never.exit_code == 3
    assert "a forget image is among them" in never.stderr
