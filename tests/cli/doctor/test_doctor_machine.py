from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from lotus_ray.cli.doctor import machine
from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING
from lotus_ray.cli.doctor.machine import GIB, devices, free_bytes, memory, scratch, shared_memory


def test_a_package_that_does_not_load_is_a_problem() -> None:
    """As a torchvision beside a torch of another build."""

    def load(name: str) -> None:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")

    found = machine.versions(load, tuple)
    assert found.status == PROBLEM
    assert found.text == "torchvision cannot be used: operator torchvision::nms does not exist"
    assert found.next_command == "pip install --force-reinstall torch torchvision"
    assert machine.versions(lambda name: None, tuple).status == OK


def test_a_package_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PACKAGES", ("ray", "no-such-package"))
    found = machine.versions(lambda name: None, tuple)
    assert (found.status, found.text) == (
        PROBLEM,
        "no-such-package cannot be used: it is not installed",
    )


def test_versions_that_lotus_ray_does_not_take_are_a_problem() -> None:
    """NumPy is older than asked for, and another is not there; extras and other systems' are not
    looked at, nor the build of a version.
    """
    declared = [
        "numpy>=99",
        "no-such-package[cloud]>=1.2",
        "pyyaml>=5",
        "no-extra; extra == 'test'",
        "no-windows; sys_platform == 'win32'",
    ]
    found = machine.versions(lambda name: None, lambda: declared)
    assert (found.status, found.exit_code) == (PROBLEM, 6)
    assert found.text == (
        f"lotus-ray needs other versions: numpy {version('numpy')}, needs numpy>=99; "
        "no-such-package is not installed, needs no-such-package[cloud]>=1.2"
    )
    assert found.next_command == "pip install 'numpy>=99' 'no-such-package[cloud]>=1.2'"
    assert machine.versions(lambda name: None, lambda: declared[2:]).status == OK


@pytest.mark.parametrize("broken", ["ray", "timm"])
def test_every_package_that_a_grid_needs_is_loaded(broken: str) -> None:
    def load(name: str) -> None:
        if name == broken:
            raise ImportError("a symbol is missing")

    assert machine.versions(load, tuple).text == f"{broken} cannot be used: a symbol is missing"


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_gpus", lambda: ["NVIDIA L4 with 22.0 GiB"])
    found = devices()
    assert found.status == OK
    assert found.text.endswith("NVIDIA L4 with 22.0 GiB")
    assert " CPUs, " in found.text


def test_memory_is_read_in_bytes(tmp_path: Path) -> None:
    """1,000 and 400 KiB."""
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable:   400 kB\nHuge:\n")
    assert memory(tmp_path / "meminfo") == (1_024_000, 409_600)
    assert memory(tmp_path / "none") == (0, 0)


@pytest.mark.parametrize(
    ("free", "status"), [(0, PROBLEM), (255 << 20, PROBLEM), (4 * GIB, WARNING), (8 * GIB, OK)]
)
def test_shared_memory_is_judged_by_what_a_grid_keeps_there(free: int, status: str) -> None:
    found = shared_memory(8, lambda folder: (16 * GIB, free))
    assert found.status == status


def test_a_system_without_shared_memory_is_told(tmp_path: Path) -> None:
    assert shared_memory(8, folder=tmp_path / "none").status == WARNING


def test_scratch_wants_cache_space_and_the_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = str(tmp_path / "new")
    assert scratch(new).status == OK
    full = scratch(new, lambda folder: (10 * GIB, GIB - 1))
    assert (full.status, full.exit_code) == (PROBLEM, 3)
    monkeypatch.setattr("lotus_ray.cli.doctor.machine.os.access", lambda path, mode: False)
    assert scratch(new).text == f"it cannot be written: {new}"


def test_the_disk_of_a_folder_that_is_not_there_is_its_parents(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b")[0] == free_bytes(tmp_path)[0] > 0
