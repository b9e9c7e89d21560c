"""A small disk that fills up at the artifact, at the row and at the images that spill to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.store.results import Store
from tests.faults.child import CELLS, SMALL, Fault, run

# Which write comes next on a disk that is full after this one; cells whose row is visible then.
FILLED_BEFORE = {
    "an artifact": ("link", r"/begun\.json$", 2),
    "the row": ("replace", r"/tensors\.safetensors$", 2),
    "the next attempt": ("link", r"/rows/[^/]+/[^/]+$", 3),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("what", FILLED_BEFORE)
def test_a_disk_that_fills_up_leaves_nothing_partial_and_is_gone_on_from(
    disk: Path, tmp_path: Path, what: str
) -> None:
    call, written, visible = FILLED_BEFORE[what]
    store, output = disk / "store", tmp_path / "output"
    prepare(SOURCES["digits"], store / "data" / "digits")
    fault = Fault(call, written, "after", fill=str(disk))
    assert run(store, *SMALL, output=output, faults=(fault,)) == 5, output.read_text()
    said = output.read_text()
    assert "the disk is full" in said
    assert "bytes are needed" in said
    assert f"where: {disk}" in said
    assert "Traceback" not in said
    rows = Store.open(str(store)).rows()
    assert {row.method for row in rows.values()} == set(CELLS[:visible])
    for row in rows.values():
        for name in row.artifacts:
            Store.open(str(store)).artifact(row, name)
    assert not [path for path in store.rglob(".*") if path.is_file()]
    (disk / "ballast").unlink()
    assert run(store, *SMALL, output=output) == 0, output.read_text()
    assert len(Store.open(str(store)).rows()) == len(CELLS)


@pytest.mark.parametrize("looks_free", [False, True])
def test_images_that_find_no_cache_space_on_the_scratch_disk_are_said_to(
    disk: Path, tmp_path: Path, looks_free: bool
) -> None:
    """Too small from the start, and full only once images are being written."""
    store, output = tmp_path / "store", tmp_path / "output"
    prepare(SOURCES["digits"], store / "data" / "digits")
    (disk / "ballast").write_bytes(b"\0" * ((32 << 20) - (8 << 10)))
    spill = (
        *("--set", "resources.decoded_memory_gb=0"),
        *("--set", f"resources.scratch={disk}"),
    )
    code = run(store, *SMALL, *spill, output=output, disk_looks_free=looks_free)
    said = output.read_text()
    assert code in (3, 5), said
    assert str(disk) in said
    assert "Traceback" not in said
    assert Store.open(str(store)).rows() == {}
    assert not list(disk.rglob("*.arrow"))
    (disk / "ballast").unlink()
    again = run(store, *SMALL, *spill, output=output, disk_looks_free=True)
    assert again == 0, output.read_text()
