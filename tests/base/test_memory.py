"""Peak memory of a grid over ten times the images that its budget holds. Minutes: `-m memory`."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from tests.toy import Sample, source

pytestmark = pytest.mark.memory
BUDGET_IMAGES = 2800  # of 224 pixels: 402 MiB, as freed blocks of batches make 50 more or less
IMAGE = Transform(224).image_bytes
BUDGET = BUDGET_IMAGES * IMAGE
LOOK_SECONDS = 0.4  # between two looks: a look at Ray's processes takes a tenth of a second
JOB = """
store: none
epochs: 1
batch_size: 64
grid:
  methods: [original, {name: lotus, class_unlearning: true}]
  datasets: [{name: S, manifest: DATA, forget: {per_class: 20}, img_size: 224}]
  models:
    - name: test_vit
      options: {img_size: 224, patch_size: 56}
      train: {epochs: 1, lr: 0.01, batch_size: 64}
  seeds: [1]
"""


def data(folder: Path, images: int) -> Path:
    """Prepare images of seven by seven colours; a fifth is held out."""
    noise = np.random.default_rng(0).integers(0, 256, (images, 7, 7, 3), dtype=np.uint8)
    samples = []
    for number, colours in enumerate(noise):
        buffer = io.BytesIO()
        Image.fromarray(colours).resize((224, 224), 0).save(buffer, "JPEG")
        split = HELDOUT if (number // 10) % 5 == 0 else TRAIN
        samples.append(Sample(f"{number:06d}", split, buffer.getvalue(), "", number % 10))
    names = tuple(str(label) for label in range(10))
    return prepare(source(samples, names), folder).directory


def peak_bytes(command: list[str], count: Callable[[Iterable[int]], int] = sum) -> int:
    """Return the most that a command and its children hold in memory that cannot be dropped.

    That is anonymous memory, and their pages of /dev/shm; pages of files on a disk can be dropped.

    Args:
        command: to run.
        count: of the anonymous memory of its processes.
    """
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while running.poll() is None:
        held = [_held_bytes(pid) for pid in _tree(running.pid)]
        peak = max(peak, count(each[0] for each in held) + sum(each[1] for each in held))
        time.sleep(LOOK_SECONDS)
    assert running.returncode == 0
    return peak


def _held_bytes(pid: int) -> tuple[int, int]:
    """Return the anonymous memory of a process, and its part of pages of /dev/shm."""
    found = {"Pss_Anon": 0, "Pss_Shmem": 0}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found["Pss_Anon"], found["Pss_Shmem"]


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


ON_DISK = ("--set", "resources.decoded_disk_gb=4")
STREAMED = (
    *("--set", "dataset.shuffle_window=128"),
    *("--set", f"resources.decoded_disk_gb={4000 * IMAGE / 2**30}"),
)


@pytest.mark.parametrize("where", [ON_DISK, STREAMED], ids=["on the disk", "streamed"])
@pytest.mark.parametrize("on_ray", [False, True], ids=["here", "on Ray"])
def test_memory_does_not_grow_with_the_set(
    tmp_path: Path, where: tuple[str, ...], on_ray: bool
) -> None:
    """Beside a set that the budget just holds: what the budget does not hold is elsewhere.

    Ray's own processes hold gigabytes together, more or less by how many it starts. So there the
    largest process counts, with what Ray's object store and decoded images take of /dev/shm.
    """
    peaks, place = [], () if on_ray else ("--local",)
    for name, images in (("one", BUDGET_IMAGES), ("ten", 10 * BUDGET_IMAGES)):
        job = tmp_path / f"{name}.yaml"
        job.write_text(JOB.replace("DATA", str(data(tmp_path / name, images))))
        gib = f"resources.decoded_memory_gb={BUDGET * 1.001 / 2**30}"
        options = ["--set", gib, "--store", str(tmp_path / f"s{name}")]
        if name == "ten":
            options += where
        code = "from lotus_ray.cli.main import main; main()"
        command = [sys.executable, "-c", code, "grid", str(job), *place, *options]
        peaks.append(peak_bytes(command, max if on_ray else sum))
    print(f"{[round(peak / 2**20) for peak in peaks]} MiB, budget {BUDGET / 2**20:.0f}")
    assert peaks[1] <= peaks[0] + 0.2 * BUDGET
