"""kill -9 at random moments of a grid that starts Ray itself: of its driver, a worker, a trial."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("ray")

from tests.cluster.clusters import end_processes, processes, processes_of_a_cluster
from tests.faults.child import CELLS, JOB, METHODS
from tests.faults.outcomes import results, row_files

pytestmark = [pytest.mark.faults, pytest.mark.ray]
PATIENCE = 200  # seconds of a command
OPTIONS = (
    *(*METHODS, "--set", "epochs=4", "--set", "resources.checkpoint_seconds=1"),
    *("--set", "grid.models.0.train.epochs=8", "--set", "grid.models.0.train.warmup_epochs=1"),
)
TITLES = {"trial": "ray::ResourceTrainable", "worker": "ray::RayTrainWorker"}
# Seconds from a victim's start to the latest moment of a kill before the first row: a command takes
# half a minute to start its trial, and a trial a quarter of one to start its worker.
FIRST = {"driver": 40.0, "trial": 20.0, "worker": 10.0}
LATER = 4.0  # seconds from a row to the latest moment: as long as a cell takes


class Grid:
    """A grid command whose Ray is known by a folder and an environment of this test."""

    def __init__(self, store: Path, folder: Path, environment: dict[str, str]) -> None:
        self.store, self.log = store, store.parent / f"{store.name}.log"
        self._folder, self._environment = str(folder), environment
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Run the command, the same one every time."""
        command = ["lotus-ray", "grid", str(JOB), "--store", str(self.store), *OPTIONS]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                command, env=self._environment, stdout=stream, stderr=stream
            )
        return self.process

    def victim(self, kind: str) -> int | None:
        """Return the process to kill, or None where there is none at the moment."""
        if kind == "driver":
            return self.process.pid
        return next(iter(processes(self._folder, TITLES[kind])), None)

    def kill(self, kind: str, rows: int, moment: float) -> bool:
        """Kill a process so long after it and so many rows are there; return whether it was."""
        while self.process.poll() is None:
            if self.victim(kind) is not None and len(row_files(self.store)) >= rows:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(moment)
                pid = self.victim(kind)
                if self.process.poll() is None and pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    return True
            time.sleep(0.1)
        return False

    def leave_nothing(self) -> list[str]:
        """End what a killed driver leaves of its Ray; return the names of those processes."""
        self.process.wait(30)
        end = time.monotonic() + 20
        while (left := processes(self._folder)) and time.monotonic() < end:
            time.sleep(0.2)
        names = []
        for pid in left:
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                names.append(" ".join(command.replace("\0", " ").split())[:100])
        end_processes(self._folder)
        return names


@dataclass(frozen=True)
class Undisturbed:
    """A grid that nobody kills: what came of it, and how long it took."""

    results: dict[str, tuple[object, ...]]
    seconds: float


@pytest.fixture(scope="module")
def own_ray() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder and an environment by which all that runs here is known."""
    with processes_of_a_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(
    own_ray: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    begin = time.monotonic()
    grid = Grid(tmp_path_factory.mktemp("undisturbed") / "store", *own_ray)
    assert grid.process.wait(PATIENCE) == 0, grid.log.read_text()
    return Undisturbed(results(grid.store), time.monotonic() - begin)


@pytest.mark.parametrize("number", range(2))
def test_random_kills_of_a_grid_on_ray_leave_its_table_as_it_is(
    own_ray: tuple[Path, dict[str, str]], undisturbed: Undisturbed, tmp_path: Path, number: int
) -> None:
    """Each victim once, in any order, before or after any of the four rows.

    A command that was killed, or that a killed trial ended, is run again. A grid that ends before
    all kills is followed by another one.
    """
    seed = os.environ.get("LOTUS_RAY_KILLS_SEED") or random.SystemRandom().randrange(10_000)
    print(f"LOTUS_RAY_KILLS_SEED={seed}, {undisturbed.seconds:.0f} s undisturbed")
    chance = random.Random(f"{seed} {number}")
    victims = chance.sample(list(FIRST), len(FIRST))
    end = time.monotonic() + PATIENCE * len(victims)
    folders = (tmp_path / f"store-{turn}" for turn in count())
    grid = Grid(next(folders), *own_ray)
    while True:
        assert time.monotonic() < end, grid.log.read_text()
        if victims:
            rows = chance.randrange(len(CELLS))
            moment = chance.uniform(0, LATER if rows else FIRST[victims[0]])
            if grid.kill(victims[0], rows, moment):
                victim = victims.pop(0)
                print(f"{victim}: {moment:.1f} s after row {rows} of {len(CELLS)}", end="")
                if victim == "driver":
                    left = grid.leave_nothing()
                    print(f"; what Ray leaves for 20 s: {left}", end="")
                    grid.start()
                print()
                continue
        code = grid.process.wait(PATIENCE)
        assert code in (0, 6), grid.log.read_text()
        if code:
            print("the command ended with 6")
            grid.start()
            continue
        assert results(grid.store) == undisturbed.results
        assert len(row_files(grid.store)) == len(CELLS)
        if not victims:
            return
        grid = Grid(next(folders), *own_ray)
