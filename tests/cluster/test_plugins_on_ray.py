"""A method of an installed package and one of a file, on Ray with two workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lotus_ray.store.results import Store
from tests.job.test_plugins import JOB, METHOD, write_job

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "my-forget"
version = "0.1"
[project.entry-points."lotus_ray.methods"]
pull = "my_forget:Push"
"""


@pytest.mark.cluster
def test_a_package_and_a_file_make_a_row_each_and_a_changed_file_another(tmp_path: Path) -> None:
    """The package is installed beside lotus-ray, in a folder of its own."""
    module = tmp_path / "project" / "my_forget" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text(METHOD.replace('"push"', '"pull"').replace('"Push"', '"Pull"'))
    (tmp_path / "project" / "pyproject.toml").write_text(PROJECT)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(tmp_path / "project")], check=True)
    job = write_job(tmp_path, JOB.replace("own/push.py, ", "").replace("push]", "push, pull]"))
    command = [
        *(sys.executable, "-m", "lotus_ray", "grid", str(job), "--store", str(tmp_path / "store")),
        *("--import", str(tmp_path / "own" / "push.py")),
        *("--set", "resources.workers=2", "--set", "resources.cpus_per_worker=1"),
    ]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, str(site)])}

    def rows(*options: str) -> dict[str, str]:
        subprocess.run([*command, *options], check=True, env=environment, cwd=tmp_path)
        stored = Store.open(str(tmp_path / "store")).rows().values()
        assert all(row.is_ok for row in stored)
        workers.append({row.resources.workers for row in stored})
        return {row.cell_id: row.method for row in stored}

    workers: list[set[int | None]] = []
    first = rows()
    assert workers == [{2}]
    assert sorted(first.values()) == ["Finetuning", "Original", "Pull", "Push"]
    (tmp_path / "own" / "push.py").write_text(METHOD.replace("-batch", "-2 * batch"))
    second = rows("--local")
    assert [method for cell, method in second.items() if cell not in first] == ["Push"]
