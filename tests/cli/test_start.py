"""Commands that need neither torch nor Ray do not import them, and all are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotus_ray.cli.main import COMMANDS, main
from lotus_ray.cli.method_source import read_methods
from lotus_ray.store.results import Store
from lotus_ray.unlearning.methods import METHODS
from tests.stores import commit

RUN = """
import sys
from lotus_ray.cli.main import main
try:
    main(sys.argv[1:], prog_name="lotus-ray")
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *[name for name in ("torch", "ray") if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "store"
    opened = Store.open(str(folder))
    opened.check_writable()
    commit(opened, "original")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "list methods",
        "list datasets",
        "list metrics",
        "list jobs",
        "status STORE",
        "report STORE",
        *(f"{name} --help" for name in COMMANDS),
    ],
)
def test_a_light_command_imports_neither_torch_nor_ray(command: str, store: Path) -> None:
    arguments = command.replace("STORE", str(store)).split()
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "loaded:"


def test_a_command_that_trains_does_import_torch() -> None:
    """So the test above can fail."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, "validate", "jobs/digits.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert "torch" in ended.stderr.splitlines()[-1]


def test_the_package_runs_as_a_module() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "lotus_ray", "--help"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("Usage: python -m lotus_ray")


def test_every_command_is_listed_with_its_help() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    for name in COMMANDS:
        assert f"\n  {name} " in shown
    unknown = CliRunner().invoke(main, ["gird"])
    assert unknown.exit_code == 2


def test_what_is_read_from_the_source_is_what_is_registered() -> None:
    """Name, label, the docstring's first line, and each hyper-parameter with its default."""
    items = read_methods()
    assert [item["name"] for item in items] == list(METHODS)
    for item in items:
        method = METHODS[item["name"]]
        assert item["label"] == method.label
        assert item["about"].startswith((method.__doc__ or "").splitlines()[0])
        for name, value in vars(method()).items():
            shown = "METHOD" if hasattr(value, "phases") else value
            assert f"{name}={shown}" in item["about"].replace(",", " ").split()
