"""A grid whose store is in a bucket: it runs, resumes, reports, and writes no secret anywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("obstore")
pytest.importorskip("moto")

from lotus_ray.base.errors import StoreError
from lotus_ray.cli.main import main
from lotus_ray.data.prepared.embedded import embedded_folder, fetch, keep
from lotus_ray.data.prepared.manifest import MANIFEST, read_manifest
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.job.datasets import locate_data
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.inputs import ensure_access
from tests.cloud import KEY, SECRET, log_in
from tests.data.prepared.test_external import write

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
QUICK = (
    *("--limit", "20", "--set", "epochs=1", "--set", "grid.methods=[original, gold, finetune]"),
    *("--set", "grid.models.0.train={epochs: 1}", "--set", "grid.models.0.options={width: 2}"),
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user who may ask for buckets."""
    log_in(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "lotus-ray"


@pytest.fixture
def uri(s3: str, tmp_path: Path) -> str:
    return s3.format(f"grids/{tmp_path.name}")


def objects(store: Store) -> dict[str, bytes]:
    return {name: store.objects.read(name) for name in store.objects.names("")}


def test_a_grid_runs_resumes_and_reports_in_a_bucket(home: Path, uri: str) -> None:
    """Decoded images of a command that was killed go too."""
    command = ("grid", JOB, "--local", "--store", uri, *QUICK)
    store = Store.open(uri)
    store.replace(f"pixels/{'a' * 12}/key/chunk.bin", bytes(1 << 20))
    first = run(*command)
    assert first.exit_code == 0, first.stderr
    removed = "removed decoded images from the store: 1.0 MiB that stopped commands left"
    assert removed in first.stderr
    assert not store.objects.names("pixels/")
    place = uri.partition("?")[0]
    assert first.stderr.splitlines()[-1] == f"DONE 3/3 cells, 0 failed: {place}/outcome.json"
    assert [row.status for row in store.rows().values()] == ["ok"] * 3
    written = objects(store)
    again = run(*command)
    assert again.exit_code == 0, again.stderr
    assert "running" not in again.stderr
    assert again.stdout == first.stdout
    changed = {name for name, content in objects(store).items() if written[name] != content}
    assert changed == {"outcome.json"}
    assert json.loads(written["outcome.json"])["done"] == 3
    report = run("report", uri)
    assert report.stdout == first.stdout
    planned = run("grid", JOB, "--dry-run", "--store", uri, *QUICK)
    assert "3 cells, 0 missing" in planned.stdout
    said = (first, again, report)
    texts = [*(r.output + r.stderr for r in said), *(c.decode("latin1") for c in written.values())]
    assert not [text for text in texts if SECRET in text or KEY in text]
    assert [path for path in home.rglob("*") if path.name == MANIFEST]


def test_weights_come_out_of_a_bucket(home: Path, uri: str, tmp_path: Path) -> None:
    trained = ("--set", "grid.models.0.train={epochs: 6, lr: 0.1}")  # it must recognise its images
    options = ("--set", "epochs=1", *trained, "--set", "grid.models.0.options={width: 8}")
    command = ["forget", JOB, "--method", "finetune", "--store", uri, *options]
    result = run(*command, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "weights.safetensors").stat().st_size > 1000
    record = (tmp_path / "out" / "record.json").read_text()
    assert not [text for text in (uri, SECRET, KEY) if text in record]


def test_another_node_copies_what_a_grid_made(home: Path, uri: str) -> None:
    """The digits: prepared by the driver, put into the store, and there on a node without them."""
    result = run("grid", JOB, "--local", "--store", uri, *QUICK)
    assert result.exit_code == 0, result.stderr
    store = Store.open(uri)
    (digest,) = {name.split("/")[1] for name in store.objects.names("data/")}
    before = read_manifest(home / digest)
    shutil.rmtree(home)
    fetch(store, [home / digest, home / "never"])
    found = read_manifest(home / digest)
    assert (found, found.digest) == (before, before.digest)
    assert [path.name for path in home.iterdir()] == [digest]
    shutil.rmtree(home)
    store.objects.replace(f"data/{digest}/{MANIFEST}", b"{}")
    with pytest.raises(StoreError, match="data in the store changed"):
        fetch(store, [home / digest])
    assert list(home.iterdir()) == []


def test_a_manifest_of_files_read_in_place_travels_with_the_store(
    home: Path, uri: str, tmp_path: Path
) -> None:
    """The files stay where they are; two states of them are two manifests."""
    for first, split in ((0, TRAIN), (9, HELDOUT)):
        write(tmp_path / f"{split}.parquet", first, [0, 1, 0, 1], ["even", "odd"])
    dataset = {
        "name": "Theirs",
        "parquet": {
            "train": [str(tmp_path / f"{TRAIN}.parquet")],
            "heldout": [str(tmp_path / f"{HELDOUT}.parquet")],
            "image": "img",
            "label": "fine_label",
        },
        "forget": {"per_class": 1},
        "img_size": 8,
    }
    loaded = load_job(JOB, [f"grid.datasets=[{json.dumps(dataset)}]"])
    store = Store.open(uri)
    store.check_writable()
    (shared,) = keep(store, locate_data(loaded, embedded_folder(store)), tmp_path / "scratch")
    assert store.objects.names("data/") == [f"data/{shared.directory.name}/{MANIFEST}"]
    planned = plan(loaded, [shared])
    shutil.rmtree(home)
    ensure_access(WorkOrder(planned.groups[0], {}, store.location, store_id=store.store_id() or ""))
    assert read_manifest(shared.directory).paths == shared.paths
    write(tmp_path / f"{TRAIN}.parquet", 5, [1, 0, 0, 1], ["even", "odd"])
    (other,) = keep(store, locate_data(loaded, embedded_folder(store)), tmp_path / "scratch")
    assert other.directory != shared.directory


def test_a_folder_keeps_its_data_to_itself(tmp_path: Path, home: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    assert embedded_folder(store) == tmp_path / "store" / "data"
    fetch(store, [tmp_path / "never"])
    assert keep(store, [], tmp_path) == []
    assert not home.exists()


def test_a_node_that_sees_another_store_runs_nothing(home: Path, uri: str, tmp_path: Path) -> None:
    """A folder that is not shared, which another command left on this node; or no folder."""
    loaded = load_job(JOB)
    group = plan(loaded, locate_data(loaded, tmp_path / "data")).groups[0]
    ours, theirs = Store.open(uri), Store.open(str(tmp_path / "theirs"))
    ours.check_writable()
    work_order = WorkOrder(group, {}, theirs.location, store_id=ours.store_id() or "")
    with pytest.raises(StoreError, match="cannot use the store: there is none"):
        ensure_access(work_order)
    theirs.check_writable()
    with pytest.raises(StoreError, match="cannot use the store: it is another store") as caught:
        ensure_access(work_order)
    assert caught.value.where == theirs.location
    assert caught.value.nearest.startswith("a folder that every node mounts")
    ensure_access(WorkOrder(group, {}, ours.location, store_id=ours.store_id() or ""))
