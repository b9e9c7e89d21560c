"""The ids of all cells of all jobs stay what they are: they are the names of rows in stores.

Data that are not here are made up: a manifest, ids, labels and digests, without any image. Of a new
job, or after a change that is meant: python -m tests.job.test_cell_ids > tests/job/cell_ids.json
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.data.prepared.manifest import (
    SCHEMA,
    Manifest,
    Shard,
    content_digest,
    read_manifest,
    sha256_of,
    write_manifest,
)
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan

PINNED = Path(__file__).with_name("cell_ids.json")
JOBS = Path(__file__).parent.parent.parent / "jobs"
# What jobs extend, what they run on, and jobs whose data are read where they lie.
NO_JOBS = (JOBS / "shared", JOBS / "clusters", JOBS / "real")
FILES = sorted(path for path in JOBS.rglob("*.yaml") if path.parent not in NO_JOBS)
NAMES = [path.relative_to(JOBS).with_suffix("").as_posix() for path in FILES]
TRAIN, HELDOUT = "train", "heldout"

# Of each data set that jobs name: classes, training and held-out images a class, and what those
# classes are called that jobs name.
MADE_UP: dict[str, tuple[int, int, int, dict[int, str]]] = {
    "digits": (10, 30, 8, {}),
    "cifar10": (10, 30, 8, dict(enumerate(("airplane", "automobile", "bird", "cat")))),
    "cifar100": (100, 20, 4, {1: "beaver", 2: "rocket"}),
    "tiny_imagenet": (200, 12, 4, {0: "pizza"}),
    "mufac": (8, 40, 8, {}),
    "imagenet": (1000, 52, 2, {}),
    "synthetic-cifar10": (10, 3, 0, dict(enumerate(("airplane", "automobile", "bird", "cat")))),
}
FORGOTTEN = 60  # training images that MUFAC's own list names


def make_up(name: str, folder: Path) -> None:
    """Write a data set of which everything that a cell's id depends on is the same everywhere."""
    classes, train, heldout, named = MADE_UP[name]
    folder.mkdir(parents=True)
    shards = []
    for split, count in ((TRAIN, train), (HELDOUT, heldout)):
        if not count:
            continue
        ids = [f"{name}/{split}/{number:05d}" for number in range(count * classes)]
        columns = {
            "sample_id": ids,
            "image": [{"bytes": b"", "path": ""}] * len(ids),
            "label": [number % classes for number in range(len(ids))],
            "sha256": [hashlib.sha256(sample_id.encode()).digest() for sample_id in ids],
        }
        path = folder / f"{split}.parquet"
        table = pa.table(columns, schema=SCHEMA)
        pq.write_table(table, path)
        size, digest = path.stat().st_size, sha256_of(path)
        shards.append(Shard(path.name, split, len(ids), size, digest, content_digest(table)))
        if name == "mufac" and split == TRAIN:
            (folder / "forget.txt").write_text("\n".join(ids[:FORGOTTEN]) + "\n")
    source = "image_folder" if name == "synthetic-cifar10" else name
    names = tuple(named.get(label, f"class {label}") for label in range(classes))
    counts = {TRAIN: (train,) * classes, HELDOUT: (heldout,) * classes}
    write_manifest(Manifest(folder, source, names, tuple(shards), counts=counts))


def make_up_all(folder: Path) -> None:
    """Write every data set where jobs look for it, and the embedded one beside them."""
    for name in MADE_UP:
        make_up(name, folder / "data" / name.replace("_", "-"))


def cell_ids(name: str) -> list[str]:
    """Return the ids of a job's cells in the order of the plan; below the made-up data alone."""
    loaded = load_job(JOBS / f"{name}.yaml")
    folders = [dataset.manifest or f"data/{dataset.source}" for dataset in loaded.job.grid.datasets]
    planned = plan(loaded, [read_manifest(Path(folder)) for folder in folders])
    return [cell.cell_id for cell in planned.cells]


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made-up")
    make_up_all(folder)
    return folder


@pytest.fixture(scope="module")
def pinned() -> dict[str, list[str]]:
    ids: dict[str, list[str]] = json.loads(PINNED.read_text())
    return ids


def test_every_job_is_pinned_and_no_other(pinned: dict[str, list[str]]) -> None:
    assert NAMES
    assert sorted(pinned) == sorted(NAMES)
    assert all(pinned.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_cells_of_a_job_keep_their_ids(
    name: str, below: Path, pinned: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(below)
    assert cell_ids(name) == pinned[name]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        make_up_all(Path(scratch))
        print(json.dumps({name: cell_ids(name) for name in NAMES}, indent=0))
