"""The command as a whole: a healthy machine, and broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lotus_ray.cli.doctor import examine
from lotus_ray.cli.doctor.exposure import RayPort, exposure
from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding, exit_code
from lotus_ray.cli.doctor.machine import GIB, shared_memory
from lotus_ray.cli.doctor.ray_address import reachability
from lotus_ray.cli.doctor.storage import storage
from lotus_ray.cli.main import main
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.results import Store

DIGITS = Path(__file__).parents[3] / "jobs" / "digits.yaml"


class Twice(LocalObjects):
    """A store that creates the same object again, as some object stores do."""

    def create(self, name: str, content: bytes) -> bool:
        self.replace(name, content)
        return True


def diagnosis(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command; return its exit code and its findings by name."""
    result = CliRunner().invoke(main, ["doctor", "--json", *arguments])
    plain: dict[str, Any] = json.loads(result.stdout)
    assert plain["exit_code"] == result.exit_code
    return result.exit_code, {finding["name"]: finding for finding in plain["findings"]}


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray, whatever else runs on this machine, and room enough."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(examine, "exposure", lambda: exposure(list))
    monkeypatch.setattr(
        examine, "shared_memory", lambda gb: shared_memory(gb, lambda folder: (64 * GIB, 60 * GIB))
    )


def test_a_healthy_machine(tmp_path: Path) -> None:
    code, found = diagnosis("--store", str(tmp_path / "new" / "store"))
    assert code == 0
    assert {name: finding["status"] for name, finding in found.items()} == dict.fromkeys(
        ["versions", "devices", "shared memory", "scratch", "store", "ray", "exposure"], OK
    )
    assert all(name in found["versions"]["text"] for name in ("python", "ray 2", "torch", "timm"))
    assert list(tmp_path.iterdir()) == []


def test_what_people_read() -> None:
    result = CliRunner().invoke(main, ["doctor"])
    lines = result.stdout.splitlines()
    assert (result.exit_code, len(lines)) == (0, 7)
    assert lines[5] == ("ok       ray: RAY_ADDRESS is not set: Ray starts here with each command")


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code, found = diagnosis("--store", str(tmp_path / "file" / "store"))
    assert (code, found["store"]["status"]) == (5, PROBLEM)
    assert found["store"]["text"].startswith("the store cannot be written: Not a directory")
    assert found["store"]["next"] == "lotus-ray grid JOB.yaml --store FOLDER"


def test_a_store_that_creates_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Store(Twice(tmp_path), "s3://bucket/runs", "s3://bucket/runs")
    monkeypatch.setattr(examine, "storage", lambda uri: storage(uri, lambda _: fake))
    code, found = diagnosis("--store", "s3://bucket/runs")
    assert (code, found["store"]["status"]) == (5, PROBLEM)
    assert "creates the same object twice" in found["store"]["text"]
    assert list(tmp_path.iterdir()) == []


def test_an_address_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, found = diagnosis()
    assert (code, found["ray"]["status"]) == (6, PROBLEM)
    assert found["ray"]["text"] == "nothing answers at RAY_ADDRESS=127.0.0.1:1: Connection refused"
    assert found["ray"]["next"].startswith("unset RAY_ADDRESS")


def test_a_dashboard_that_is_open_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def exposed() -> Finding:
        return exposure(lambda: [("0.0.0.0", 8265)], list, lambda port, at: False)

    assert exposed().status == OK  # it is no port of Ray's
    monkeypatch.setattr(
        examine,
        "exposure",
        lambda: exposure(
            lambda: [("0.0.0.0", 8265)], lambda: [RayPort("dashboard", 8265)], lambda p, a: False
        ),
    )
    code, found = diagnosis()
    assert (code, found["exposure"]["status"]) == (6, PROBLEM)
    assert "dashboard 0.0.0.0:8265" in found["exposure"]["text"]
    assert "--dashboard-host=127.0.0.1" in found["exposure"]["next"]


def test_shared_memory_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        examine, "shared_memory", lambda gb: shared_memory(gb, lambda folder: (64 << 20, 0))
    )
    code, found = diagnosis()
    assert (code, found["shared memory"]["status"]) == (3, PROBLEM)
    assert found["shared memory"]["text"] == "it is full: 0.0 MiB of 0.1 GiB free in /dev/shm"
    assert "--shm-size" in found["shared memory"]["next"]


def test_a_job_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 GiB free, 8 are asked for by default and 61 by this job."""
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "job.yaml"
    job.write_text(f"extends: {DIGITS}\nresources: {{decoded_memory_gb: 61}}\nstore: here\n")
    code, found = diagnosis("--job", str(job))
    assert (code, found["shared memory"]["status"]) == (0, WARNING)
    assert found["store"]["text"].startswith("here creates once and not twice")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]
    assert diagnosis()[1]["shared memory"]["status"] == OK


def test_the_gravest_problem_gives_the_exit_code() -> None:
    def problem(name: str) -> Finding:
        return Finding(name, PROBLEM, "")

    assert exit_code([]) == 0
    assert exit_code([Finding("ray", WARNING, "")]) == 0
    assert exit_code([problem("shared memory"), problem("store")]) == 5
    assert exit_code([problem("ray"), problem("store"), problem("scratch")]) == 6


def test_it_ends_where_no_ray_runs() -> None:
    """After ten seconds on an idle machine, and never if it waits for a reply."""
    code = (
        "from lotus_ray.cli.doctor.examine import checks, examine;"
        "print(*(each.name for each in examine(checks(None, None))), sep=chr(10))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )
    assert "ray" in done.stdout.splitlines()


def test_no_address_is_no_problem() -> None:
    assert reachability({"RAY_ADDRESS": ""}).status == OK
    assert reachability({"RAY_ADDRESS": "local"}).status == OK


JOB = """\
store: STORE
epochs: 1
grid:
  methods: [original]
  datasets: [{name: digits, DATA, forget: {fraction: 0.1}, img_size: 8}]
  models: [{name: resnet18_cifar, options: {width: 2}, train: {epochs: 1, lr: 0.1}}]
  seeds: [1]
"""


@pytest.mark.parametrize(
    ("data", "more", "code", "text"),
    [
        ("source: digits", "", 0, "1 cells can run"),
        ("manifest: nowhere", "", 3, "the data of digits are not here (nowhere)"),
        ("source: digits", "resources: {gpus_per_worker: 1}", 6, "largest node has 0 GPUs"),
    ],
)
def test_a_job_is_refused_where_a_grid_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, more: str, code: int, text: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    text_of_job = JOB.replace("STORE", str(tmp_path / "runs")).replace("DATA", data)
    (tmp_path / "job.yaml").write_text(text_of_job + more + "\n")
    exit_code, found = diagnosis("--job", str(tmp_path / "job.yaml"))
    assert exit_code == code
    assert text in found["job"]["text"]
