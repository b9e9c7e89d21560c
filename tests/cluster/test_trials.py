"""The command as a user runs it, on Ray: results, resume, faults. About a minute each."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lotus_ray.data.roles.table import Roles
from lotus_ray.models.weights import WEIGHTS, weights_from_bytes
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.unlearning.methods import METHODS

pytestmark = pytest.mark.ray
JOBS = Path(__file__).parents[2] / "jobs"
QUICK = (
    *("--limit", "143", "--set", "epochs=2"),
    *("--set", "grid.models.0.train.epochs=4", "--set", "grid.models.0.train.warmup_epochs=1"),
)
FP64 = ("--set", "precision=fp64")
TWO = ("--set", "resources.workers=2")
BOTH_MODELS = (
    "--set",
    "grid.models=["
    "{name: test_vit, options: {img_size: 8, patch_size: 2},"
    " train: {optimizer: adamw, lr: 0.002, epochs: 3, batch_size: 64}},"
    "{name: resnet18_cifar, options: {width: 2}, train: {epochs: 3, batch_size: 64}}]",
)
LOTUS = "{name: lotus, alpha: 8}"
ALL_METHODS = ("--set", f"grid.methods=[{', '.join(METHODS).replace('lotus', LOTUS)}]")
FOUR = ("--set", f"grid.methods=[original, gold, finetune, {LOTUS}]")
# Phases of other kinds: several of one optimizer, a mask that is kept, images that are learned.
SIX = ("--set", f"grid.methods=[original, {LOTUS}, scrub, salun, unsir, ssd]")
PATIENCE = 240  # seconds


def command(job: str, store: Path, *options: str) -> list[str]:
    code = "from lotus_ray.cli.main import main; main()"
    arguments = ["grid", str(JOBS / job), "--store", str(store), *QUICK, *FOUR, *options]
    return [sys.executable, "-c", code, *arguments]


def run(job: str, store: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(job, store, *options),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start(job: str, store: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(job, store, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_until(true: Callable[[], object], driver: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert driver.poll() is None, "the command ended too early"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def rows_by_method(store: Path) -> dict[str, Row]:
    return {row.method: row for row in Store.open(str(store)).rows().values()}


def metrics(store: Path) -> dict[str, dict[str, float]]:
    return {method: row.metrics for method, row in rows_by_method(store).items()}


def row_files(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.glob("rows/*/*.json")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits grid in one process: what every run on Ray must equal."""
    store = tmp_path_factory.mktemp("undisturbed")
    assert run("digits.yaml", store, "--local", *ALL_METHODS).returncode == 0
    assert len(metrics(store)) == len(METHODS)
    return store


@pytest.mark.faults
def test_a_killed_driver_is_resumed_by_the_same_command(undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 after the first commit: that row keeps its modification time, the rest follow."""
    store = tmp_path / "store"
    driver = start("digits.yaml", store)
    wait_until(lambda: row_files(store), driver)
    driver.kill()
    driver.wait()
    kept = row_files(store)
    assert 1 <= len(kept) < 4
    again = run("digits.yaml", store)
    assert again.returncode == 0, again.stderr
    after = row_files(store)
    assert len(after) == 4
    assert {path: after[path] for path in kept} == kept
    expected = metrics(undisturbed)
    assert metrics(store) == {method: expected[method] for method in metrics(store)}
    assert "DONE 4/4 cells, 0 failed" in again.stderr.splitlines()[-1]
    assert "Trial" not in again.stdout
    assert again.stdout.splitlines()[0] == "digits, ResNet18, instance_10pct_noise20pct_smoke143"


@pytest.mark.faults
def test_workers_killed_between_phases_go_on_from_the_checkpoint(
    undisturbed: Path, tmp_path: Path
) -> None:
    """kill -9 of both places' workers at the first checkpoint of every cell.

    The weights are bit-identical all the same.
    """
    store = tmp_path / "store"
    driver = start("digits.yaml", store, *SIX, "--set", "resources.checkpoint_seconds=0")
    killed: set[str] = set()
    while driver.poll() is None:
        time.sleep(0.02)
        for checkpoint in store.glob("borders/*/*.pt"):
            if checkpoint.parent.name not in killed:
                killed.add(checkpoint.parent.name)
                for pid in descendants(driver.pid, "RayTrainWorker"):
                    os.kill(pid, signal.SIGKILL)
    assert driver.returncode == 0
    rows, expected = rows_by_method(store), rows_by_method(undisturbed)
    assert len(rows) == 6
    assert len(killed) >= 5  # SSD trains no phase
    assert sum(row.attempts > 1 and row.resumed_at_phase > 0 for row in rows.values()) >= 3
    for method, row in rows.items():
        assert row.artifacts[WEIGHTS].sha256 == expected[method].artifacts[WEIGHTS].sha256
        assert row.metrics == expected[method].metrics
        assert len(row.phases) == len(expected[method].phases)


@pytest.mark.faults
@pytest.mark.parametrize(
    "victim", ["DispatcherActor", "TrainController", "ResourceTrainable", "RayTrainWorker"]
)
def test_a_process_that_is_killed_changes_no_row(
    undisturbed: Path, tmp_path: Path, victim: str
) -> None:
    """kill -9 of one, once the first cell has begun: one row a cell, of the same bytes."""
    store = tmp_path / "store"
    driver = start("digits.yaml", store)
    wait_until(
        lambda: list(store.glob("attempts/*/*/begun.json")) and descendants(driver.pid, victim),
        driver,
    )
    os.kill(descendants(driver.pid, victim)[0], signal.SIGKILL)
    assert driver.wait(2 * PATIENCE) == 0
    rows, expected = rows_by_method(store), rows_by_method(undisturbed)
    assert len(rows) == len(row_files(store)) == 4
    for method, row in rows.items():
        assert row.artifacts[WEIGHTS].sha256 == expected[method].artifacts[WEIGHTS].sha256
    attempts = sorted(row.attempts for row in rows.values())
    assert attempts in ([1, 1, 1, 1], [1, 1, 1, 2])
    if victim in ("DispatcherActor", "ResourceTrainable"):  # which run no cell
        assert attempts == [1, 1, 1, 1]


@pytest.mark.cluster
def test_two_workers_give_the_result_of_one(tmp_path: Path) -> None:
    """In float64, from one original: weights to 1e-6 relative, every accuracy exactly.

    On a ViT, and on a ResNet whose batch normalisation the workers have to share. The forget set
    and the retain set have odd sizes, so that workers' shares differ. All methods, without Ray, are
    in tests/unlearning.
    """
    # So LoTUS does not stop at once, however little the original has learned.
    methods = SIX[1].replace("alpha: 8", "class_unlearning: true")
    options = (*FP64, "--set", methods, *BOTH_MODELS)
    one = run("digits-vit.yaml", tmp_path / "one", "--local", *options)
    assert one.returncode == 0, one.stderr
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = Store.open(str(tmp_path / "one")).rows()
    assert len(first) == 2 * 6
    for cell_id, row in first.items():
        if row.method != "Original":
            shutil.rmtree(tmp_path / "two" / "rows" / cell_id)
    two = run("digits-vit.yaml", tmp_path / "two", *options, *TWO)
    assert two.returncode == 0, two.stderr
    second = Store.open(str(tmp_path / "two")).rows()
    assert first.keys() == second.keys()
    for cell_id, row in first.items():
        other = second[cell_id]
        if row.method == "Original":
            assert row == other
            continue
        assert row.phases or row.method == "SSD"
        assert other.resources.workers == 2
        for name, value in row.metrics.items():
            exact = name.endswith("accuracy")
            assert other.metrics[name] == (value if exact else pytest.approx(value))
        assert relative_distance(tmp_path / "one", row, tmp_path / "two", other) < 1e-6


@pytest.mark.cluster
def test_images_that_stream_give_the_weights_of_images_that_are_here(tmp_path: Path) -> None:
    """On Ray, with room for 480 of 572 digits of 192 bytes; here, with room for all."""
    window = ("--set", "dataset.shuffle_window=16")
    cache_space = 480 * 192 / 2**30
    tight = (f"resources.decoded_memory_gb={cache_space}", "resources.decoded_disk_gb=0")
    here = run("digits.yaml", tmp_path / "here", "--local", *window)
    assert here.returncode == 0, here.stderr
    options = (*window, *(word for value in tight for word in ("--set", value)))
    streamed = run("digits.yaml", tmp_path / "streamed", *options)
    assert streamed.returncode == 0, streamed.stderr
    expected, found = rows_by_method(tmp_path / "here"), rows_by_method(tmp_path / "streamed")
    assert len(expected) == 4
    for method, row in expected.items():
        assert found[method].artifacts[WEIGHTS].sha256 == row.artifacts[WEIGHTS].sha256
        assert found[method].metrics == row.metrics
    decoded = [row.counters["images_decoded"] for row in found.values()]
    assert sum(row.counters["images_decoded"] for row in expected.values()) == 572
    assert sum(decoded) > 2 * 572


@pytest.mark.cluster
def test_groups_share_what_they_decode_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Two seeds at once on two CPUs: each of the images of both tables is decoded once.

    On a disk of the test alone: other grids of this machine use /dev/shm at the same time.
    """
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    scratch.mkdir()
    on_disk = (f"resources.scratch={scratch}", "resources.decoded_memory_gb=0")
    settings = [part for each in ("grid.seeds=[1,2]", *on_disk) for part in ("--set", each)]
    result = run("digits.yaml", store, *settings)
    assert result.returncode == 0, result.stderr
    rows = list(Store.open(str(store)).rows().values())
    assert len(rows) == 8
    tables = [Roles.from_parquet(path.read_bytes()) for path in (store / "roles").iterdir()]
    assert len(tables) == 2
    unique = set(tables[0].sample_ids) | set(tables[1].sample_ids)
    assert sum(row.counters["images_decoded"] for row in rows) == len(unique)
    assert list(scratch.iterdir()) == []


def relative_distance(store: Path, row: Row, other_store: Path, other: Row) -> float:
    weights, others = (
        weights_from_bytes(Store.open(str(place)).artifact(found, WEIGHTS))
        for place, found in ((store, row), (other_store, other))
    )
    assert weights.keys() == others.keys()
    assert {value.dtype for value in weights.values()} <= {torch.float64, torch.int64}
    flat, other_flat = (
        torch.cat([w[name].flatten().double() for name in sorted(w)]) for w in (weights, others)
    )
    return float((flat - other_flat).norm() / flat.norm())


def descendants(pid: int, name: str) -> list[int]:
    """Return the processes below `pid` whose command line holds `name`."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                parents[int(entry.name)] = int(fields[1])
                names[int(entry.name)] = (entry / "cmdline").read_text()
    found = [child for child, text in names.items() if name in text]

    def is_below(child: int) -> bool:
        while child in parents and child != pid:
            child = parents[child]
        return child == pid

    return [child for child in found if is_below(child)]
