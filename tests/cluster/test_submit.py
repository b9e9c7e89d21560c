"""`ray job submit -- lotus-ray grid` on a cluster of one node: to the end, and stopped halfway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

from lotus_ray.store.results import Store
from tests.cluster.clusters import ROOT, Head, head, wait_until

pytestmark = pytest.mark.cluster
SMALL = (
    *("--limit", "143", "--set", "epochs=2"),
    *("--set", "grid.models.0.train.epochs=4", "--set", "grid.models.0.train.warmup_epochs=1"),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    """A head with the two CPUs of a small machine; its processes know a token."""
    with head("--num-cpus", "2") as started:
        yield started


def grid(store: Path, methods: str, *options: str) -> list[str]:
    job = str(ROOT / "jobs" / "digits.yaml")
    methods = f"grid.methods=[{methods}]"
    return ["lotus-ray", "grid", job, "--store", str(store), *SMALL, "--set", methods, *options]


def row_files(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.glob("rows/*/*.json")}


def test_a_submitted_grid_runs_to_its_end(cluster: Head, tmp_path: Path) -> None:
    """The submission sets a variable that the command would set too: Ray takes that of one."""
    environment = {"env_vars": {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "OTHER": "1"}}
    command = grid(tmp_path, "original, gold")
    followed = cluster.ray(
        *("job", "submit", "--submission-id", "whole"),
        *("--runtime-env-json", json.dumps(environment), "--", *command),
    )
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "SUCCEEDED" in cluster.ray("job", "status", "whole").stdout.upper()
    lines = cluster.ray("job", "logs", "whole").stdout.splitlines()
    events = [line for line in lines if " s  " in line and "seed 3407" in line]
    states = [line.split(": ")[-1].split(";")[0].split(" at ")[0] for line in events]
    assert sorted(states) == ["done", "done", "running", "running"]
    assert any(line.startswith("DONE 2/2 cells, 0 failed: ") for line in lines)
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"], outcome["done"]) == ("ended", 0, 2)
    report = cluster.run("lotus-ray", "report", str(tmp_path), "--format", "csv")
    assert report.returncode == 0, report.stderr
    methods = {line.split(",")[3] for line in report.stdout.splitlines()[1:]}
    assert methods == {"Original", "Gold Std"}


def test_a_stopped_grid_says_so_and_goes_on_when_it_is_submitted_again(
    cluster: Head, tmp_path: Path
) -> None:
    """While Finetuning runs, after two commits. Ray keeps no exit code of a stopped job."""
    methods = "original, {name: finetune, epochs: 600}, gold"  # longer than a stop takes
    command = grid(tmp_path, methods, "--set", "resources.checkpoint_seconds=0")
    submit = ("job", "submit", "--no-wait", "--submission-id")
    assert cluster.ray(*submit, "first", "--", *command).returncode == 0
    checkpoints = tmp_path / "borders"
    wait_until(lambda: len(row_files(tmp_path)) == 2 and list(checkpoints.glob("*/*.pt")))
    stopped = cluster.ray("job", "stop", "first")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "STOPPED" in cluster.ray("job", "status", "first").stdout.upper()
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    kept = row_files(tmp_path)
    assert len(kept) == 2
    # Rows are counted after Ray is left, so the command ended itself before it was killed.
    assert (outcome["state"], outcome["exit_code"]) == ("interrupted", None)
    assert (outcome["done"], outcome["cells"]) == (len(kept), 3)

    again = cluster.ray("job", "submit", "--submission-id", "second", "--", *command)
    assert again.returncode == 0, again.stdout + again.stderr
    after = row_files(tmp_path)
    assert len(after) == 3
    assert {path: after[path] for path in kept} == kept
    rows = {row.method: row for row in Store.open(str(tmp_path)).rows().values()}
    assert {row.status for row in rows.values()} == {"ok"}
    assert rows["Original"].attempts == 1
    assert rows["Finetuning"].attempts == 2
    assert rows["Finetuning"].resumed_at_phase > 0
