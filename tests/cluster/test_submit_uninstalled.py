"""`ray job submit --working-dir .` to a Ray whose Python does not have the package.

The command is the one that docs/cluster.md gives. It takes minutes and a registry of
packages: the job installs what builds a wheel, and `uv`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

pytest.importorskip("ray")

from tests.cluster.clusters import ROOT, Head, head

PACKAGE = "lotus-ray"
SMALL = (
    *("--limit", "143", "--set", "grid.methods=[original]"),
    *("--set", "grid.models.0.train.epochs=2", "--set", "grid.models.0.train.warmup_epochs=1"),
)


def documented(tool: str) -> list[str]:
    """Return the words of the command that the document gives for pip or uv."""
    text = (ROOT / "docs/cluster.md").read_text()
    commands = re.findall(r"^ray job submit --working-dir (?:.*\\\n)*.*", text, re.MULTILINE)
    (command,) = (each for each in commands if f'"{tool}"' in each)
    return shlex.split(command.replace("\\\n", " "))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has all packages of this one but lotus-ray."""
    folder = tmp_path_factory.mktemp("without")
    # Its packages are links to those of this one: an upgrade would write through them.
    versions = [f"{each.name}=={each.version}" for each in distributions() if each.name != PACKAGE]
    (folder / "constraints.txt").write_text("\n".join(versions))
    venv.create(folder, with_pip=False)
    packages = Path(sysconfig.get_paths()["purelib"])
    target = folder / packages.relative_to(sys.prefix)
    for entry in packages.iterdir():
        if not re.match(r"_*(editable_impl_)?lotus_ray", entry.name) and entry.suffix != ".pth":
            (target / entry.name).symlink_to(entry)
    interpreter = folder / "bin" / "python"
    (folder / "bin" / "ray").write_text(
        f"#!{interpreter}\nfrom ray.scripts.scripts import main\nmain()\n"
    )
    (folder / "bin" / "ray").chmod(0o755)
    look = "import ray, importlib.util as u; print(u.find_spec('lotus_ray'))"
    found = subprocess.check_output([interpreter, "-c", look], cwd="/", env={}, text=True)
    assert found == "None\n"
    return interpreter


@pytest.fixture(scope="module")
def cluster(python: Path) -> Iterator[Head]:
    """A head that runs on that Python."""
    path = f"{python.parent}:{os.environ['PATH']}"
    pinned = str(python.parent.parent / "constraints.txt")
    pins = dict.fromkeys(("PIP_CONSTRAINT", "UV_CONSTRAINT"), pinned)
    with head("--num-cpus", "2", PATH=path, PYTHONPATH="", VIRTUAL_ENV="", **pins) as started:
        yield started


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, as a clone has them."""
    folder = tmp_path_factory.mktemp("checkout")
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def submit(cluster: Head, checkout: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=checkout,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def test_the_commands_of_the_document_differ_in_the_tool_alone() -> None:
    command = documented("pip")
    assert [word.replace('"uv"', '"pip"') for word in documented("uv")] == command
    assert command[command.index("--") + 1 :][:3] == ["lotus-ray", "grid", "jobs/imagenet.yaml"]


@pytest.mark.cluster
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_checkout_runs_where_nothing_is_installed(
    cluster: Head, checkout: Path, tmp_path: Path, tool: str
) -> None:
    words = documented(tool)
    given = words.index("--")
    command = ["lotus-ray", "grid", "jobs/digits.yaml", "--store", str(tmp_path), *SMALL]
    ended = submit(cluster, checkout, [*words[:given], "--submission-id", tool, "--", *command])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SUCCEEDED" in cluster.ray("job", "status", tool).stdout.upper()
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"], outcome["done"]) == ("ended", 0, 1)


@pytest.mark.cluster
def test_a_store_in_the_uploaded_folder_is_refused(cluster: Head, checkout: Path) -> None:
    """Ray deletes the folder with the job. The environment of the first test is taken again."""
    words = documented("pip")
    words = [*words[: words.index("--")], "--", "lotus-ray", "grid", "jobs/digits.yaml", *SMALL]
    ended = submit(cluster, checkout, words)
    assert ended.returncode != 0
    assert "the store is in the job's copy of its working directory" in ended.stdout + ended.stderr
