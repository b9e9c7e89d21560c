"""The Slurm script and the SkyPilot task, with stand-ins for Slurm, SkyPilot and Ray.

Nothing here runs `ray symmetric-run`: it ends with `ray stop`, which ends every Ray of this user.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")

from ray.scripts.scripts import start
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

from lotus_ray import __version__
from lotus_ray.base.errors import JobError
from lotus_ray.job.load import load_job
from lotus_ray.job.schema.job import Job
from lotus_ray.job.schema.resources import Resources
from tests.rules import Must, wrong

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "jobs" / "clusters" / "slurm.sh"
SKY = ROOT / "jobs" / "clusters" / "skypilot.yaml"
GIB = 1 << 30
# Of SkyPilot's schema for a task: what we use.
TASK = Must(
    name=re.compile(r"[a-z-]+"),
    num_nodes=int,
    resources=Must(
        infra={"aws"},
        accelerators=re.compile(r"[A-Z0-9]+:\d"),
        cpus=re.compile(r"\d+\+"),
        memory=re.compile(r"\d+\+"),
        use_spot={True},
        image_id={f"docker:REGISTRY/lotus-ray:{__version__}"},
        disk_size=int,
        disk_tier={"high"},
        job_recovery=Must(strategy={"EAGER_NEXT_REGION"}, recover_on_exit_codes=[{75}]),
    ),
    envs=Must(JOB=str, DATA=re.compile(r"s3://\S+"), STORE={None}, OBJECT_STORE_GIB=str),
    secrets=Must(RAY_AUTH_TOKEN={None}),  # the user sets it
    config=Must(docker=Must(run_options=[re.compile(r"--shm-size=\d+g|-v \S+:/scratch")])),
    run=str,
)


def run(script: str, folder: Path, fakes: dict[str, str], **environment: str) -> Any:
    """Run a script with stand-ins on its PATH."""
    for name, body in fakes.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def overrides(words: list[str]) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == "--set"]


def slurm(folder: Path, free_gib: int) -> Any:
    """Run the Slurm script on a node that stands in for two."""
    fakes = {
        # Options of srun end before the command; the long one is told and not run.
        "srun": "while [[ $1 == --* ]]; do shift; done\n"
        '[ "$1" != ray ] || { printf "%s\\n" "$@"; exit 75; }\n'
        'exec "$@"',
        "scontrol": 'echo "$3" | tr , "\\n"',
        "hostname": '[ "$1" = --all-ip-addresses ] && echo "10.0.0.7 172.17.0.1 " || echo node1',
        "df": f"echo Avail; echo ' {free_gib}'",
    }
    environment = {
        "SLURM_JOB_NODELIST": "node1,node2",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "32",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_TMPDIR": "/local",
    }
    return run(SLURM.read_text(), folder, fakes, **environment)


def test_the_slurm_script_asks_symmetric_run_for_what_it_takes(tmp_path: Path) -> None:
    """Ray's own parsers read its words, and the job accepts its settings."""
    ended = slurm(tmp_path, free_gib=80)
    assert ended.returncode == 75  # that of the grid
    assert ended.stderr == ""
    ray, command, *words = ended.stdout.splitlines()
    assert (ray, command) == ("ray", "symmetric-run")
    options, entrypoint = words[: words.index("--")], words[words.index("--") + 1 :]
    asked = symmetric_run.make_context("_", [*options], resilient_parsing=True).params
    assert (asked["address"], asked["min_nodes"]) == ("10.0.0.7:6379", 2)
    begun = start.make_context("_", [*curate_and_validate_ray_start_args(options)]).params
    assert (begun["num_cpus"], begun["num_gpus"]) == (32, 4)
    assert begun["object_spilling_directory"] == "/local"
    assert entrypoint[:4] == ["env", "RAY_ADDRESS=10.0.0.7:6379", "lotus-ray", "grid"]
    loaded = load_job(ROOT / entrypoint[4], overrides(entrypoint)).job
    assert loaded.resources.scratch == "/local"
    need = begun["object_store_memory"] / GIB + loaded.resources.decoded_memory_gb + 1
    assert need <= 80
    assert slurm(tmp_path, free_gib=int(need)).returncode == 75
    assert 2 * need < memory_of_a_node()


def memory_of_a_node() -> int:
    """GiB that the script asks for; Linux gives half of a node's memory to /dev/shm."""
    (memory,) = re.findall(r"^#SBATCH --mem=(\d+)G$", SLURM.read_text(), re.MULTILINE)
    return int(memory)


def test_the_slurm_script_stops_where_shared_memory_is_short(tmp_path: Path) -> None:
    ended = slurm(tmp_path, free_gib=64)
    assert ended.returncode == 1
    assert ended.stderr == "node1: /dev/shm has 64 GiB free, not 65\n"
    assert ended.stdout == ""


def test_the_slurm_script_is_bash_and_has_its_nodes_alone() -> None:
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0
    asked = re.findall(r"^#SBATCH (\S+)$", SLURM.read_text(), re.MULTILINE)
    assert {"--exclusive", "--requeue", "--ntasks-per-node=1"} <= set(asked)
    assert "RAY_AUTH_MODE=token" in SLURM.read_text()


@pytest.fixture
def task() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(SKY.read_text())
    return loaded


@pytest.fixture
def head() -> Iterator[int]:
    """Return a port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def sky(task: dict[str, Any], folder: Path, head: int, rank: int, status: int = 0) -> Any:
    """Run the task on one of two nodes; `ray` and the agent run until they are killed."""
    forever = 'echo "{} $@" >>said; exec sleep 20'
    fakes = {
        "sudo": ":",
        "ray": forever.format("ray") if rank == 0 else 'echo "ray $@" >>said',
        "lotus-ray": '[ "$1" = grid ] || { echo "agent $@" >>said; exec sleep 20; }\n'
        # The grid's end kills the two others, so it waits until both have written.
        'until [ "$(cat said 2>/dev/null | wc -l)" = 2 ]; do sleep .05; done\n'
        f'echo "$RAY_ADDRESS"; printf "%s\\n" "$@"; exit {status}',
    }
    for name in ("ray", "lotus-ray"):
        fakes[name] = f'cd "{folder}"; {fakes[name]}'
    environment = {
        **{name: value or f"s3://b/{name}" for name, value in task["envs"].items()},
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2",
        "SKYPILOT_NODE_RANK": str(rank),
        "SKYPILOT_NUM_GPUS_PER_NODE": "1",
    }
    return run(task["run"].replace("6379", str(head)), folder, fakes, **environment)


def test_the_skypilot_task_is_of_known_fields_and_its_memory_fits(task: dict[str, Any]) -> None:
    assert list(wrong(task, TASK)) == []
    (size,) = re.findall(r"--shm-size=(\d+)g", " ".join(task["config"]["docker"]["run_options"]))
    budget = int(size) - int(task["envs"]["OBJECT_STORE_GIB"]) - 1
    assert budget >= Resources().decoded_memory_gb
    assert int(size) <= int(task["resources"]["memory"].removesuffix("+")) / 2
    assert not re.search(r"\bray stop\b", task["run"])  # it would end SkyPilot's own Ray
    assert list(wrong({**task, "runs": ""}, TASK)) == [".runs: unknown key"]


def test_the_first_node_runs_the_grid_and_passes_its_exit_code_on(
    task: dict[str, Any], tmp_path: Path, head: int
) -> None:
    ended = sky(task, tmp_path, head, rank=0, status=75)
    assert ended.returncode == 75, ended.stderr
    address, *words = ended.stdout.splitlines()
    assert address == f"127.0.0.1:{head}"
    assert words[:4] == ["grid", task["envs"]["JOB"], "--store", "s3://b/STORE"]
    job = load_job(ROOT / words[1].removeprefix("/home/ray/lotus-ray/"), overrides(words)).job
    assert isinstance(job, Job)
    assert str(job.grid.datasets[0].manifest).startswith("s3://")
    agent, ray = sorted((tmp_path / "said").read_text().splitlines())
    assert agent == f"agent spot-agent --provider aws --address 127.0.0.1:{head}"
    begun = start.make_context("_", ray.split()[2:], resilient_parsing=True).params
    assert begun["head"]
    assert begun["object_store_memory"] == 4 * GIB


def test_other_nodes_join_and_end_well_with_the_first(
    task: dict[str, Any], tmp_path: Path, head: int
) -> None:
    ended = sky(task, tmp_path, head, rank=1)
    assert (ended.returncode, ended.stdout) == (0, "")
    ray = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("ray")]
    (words,) = [line.split()[2:] for line in ray]
    begun = start.make_context("_", words, resilient_parsing=True).params
    assert (begun["address"], begun["block"]) == (f"127.0.0.1:{head}", True)


def test_it_is_no_job() -> None:
    with pytest.raises(JobError) as raised:
        load_job(SKY)
    assert raised.value.what == "this is a task for SkyPilot, not a job"
    assert raised.value.next_command == f"sky jobs launch {SKY}"
