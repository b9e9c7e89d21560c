"""kill -9 at every named point of the commit protocol, and at random moments."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.grid.status_files import OUTCOME
from tests.faults.child import CELLS, SMALL, Fault, run, start
from tests.faults.outcomes import by_method, results, row_files

EMBEDDED = "digits"
ROW = r"/rows/[^/]+/[^/]+$"
WEIGHTS = r"/attempts/.*weights\.safetensors"
# The grid commits Original, Gold Std, Finetuning, LoTUS in this order; the third one is hit.
POINTS = {  # point: what goes wrong, cells whose row is visible then
    "the attempt is being marked": (Fault("link", "/begun.json$", "before"), 2),
    "the attempt is marked": (Fault("link", "/begun.json$", "after"), 2),
    "an artifact is half written": (Fault("fsync", WEIGHTS, "torn"), 2),
    "an artifact is written, without its name": (Fault("replace", WEIGHTS, "before"), 2),
    "an artifact has its name": (Fault("replace", WEIGHTS, "after"), 2),
    "all artifacts have their names": (Fault("replace", "/tensors.safetensors$", "after"), 2),
    "the row is half written": (Fault("fsync", "/rows/[^/]+/.+", "torn"), 2),
    "the row is written, without its name": (Fault("link", ROW, "before"), 2),
    "the row has its name": (Fault("link", ROW, "after"), 3),
    "the row's folder is not flushed": (Fault("fsync", "/rows/[^/]+$", "before"), 3),
    "the row's folder is flushed": (Fault("fsync", "/rows/[^/]+$", "after"), 3),
}

# The others take a grid and a half each, and run with -m faults.
IN_EVERY_RUN = ("an artifact is half written", "the row is half written", "the row has its name")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the prepared digits and nothing else."""
    store = tmp_path_factory.mktemp("digits") / "store"
    prepare(SOURCES["digits"], store / "data" / EMBEDDED)
    return store


@pytest.fixture(scope="module")
def undisturbed(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    shutil.copytree(digits, store)
    assert run(store, *SMALL, output=store.parent / "output") == 0
    return store


@pytest.fixture
def store(digits: Path, tmp_path: Path) -> Path:
    shutil.copytree(digits, tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=() if point in IN_EVERY_RUN else pytest.mark.faults)
        for point in POINTS
    ],
)
def test_a_grid_killed_at_a_point_of_the_commit_is_finished_by_the_same_command(
    store: Path, undisturbed: Path, tmp_path: Path, point: str
) -> None:
    fault, visible = POINTS[point]
    output = tmp_path / "output"
    assert run(store, *SMALL, output=output, faults=(fault,)) == -9, output.read_text()
    expected = results(undisturbed)
    assert results(store) == {method: expected[method] for method in CELLS[:visible]}
    kept = row_files(store)
    assert run(store, *SMALL, output=output) == 0, output.read_text()
    assert results(store) == expected
    after = row_files(store)
    assert len(after) == len(CELLS)
    assert {path: after[path] for path in kept} == kept
    attempts = {method: row.attempts for method, row in by_method(store).items()}
    again = 1 if visible == 3 or point == "the attempt is being marked" else 2
    assert attempts == {**dict.fromkeys(CELLS, 1), CELLS[2]: again}
    assert f"DONE {len(CELLS)}/{len(CELLS)} cells, 0 failed" in output.read_text()
    assert not list(store.glob("borders/*/*.pt"))


def killed_at_random(store: Path, output: Path, options: tuple[str, ...], moment: float) -> int:
    """Start a grid, kill it after so many seconds; return how many cells it had committed."""
    process = start(store, *options, output=output)
    time.sleep(moment)
    process.kill()
    process.join()
    return len(by_method(store))


@pytest.mark.parametrize("number", range(1))
def test_a_grid_killed_at_a_random_moment_is_finished_by_the_same_command(
    store: Path, undisturbed: Path, tmp_path: Path, number: int
) -> None:
    output = tmp_path / "output"
    moment = random.Random(number).uniform(0.3, 2.0)
    killed_at_random(store, output, SMALL, moment)
    kept = row_files(store)
    assert run(store, *SMALL, output=output) == 0, output.read_text()
    assert results(store) == results(undisturbed)
    assert {path: row_files(store)[path] for path in kept} == kept


@pytest.mark.faults
def test_twenty_random_kills_of_the_digits_grid_leave_its_table_as_it_is(
    digits: Path, tmp_path: Path
) -> None:
    """All images, four cells. Moments are spread over the whole of an undisturbed run."""
    whole, output = tmp_path / "whole", tmp_path / "output"
    shutil.copytree(digits, whole)
    begin = time.monotonic()
    assert run(whole, output=output) == 0
    seconds = time.monotonic() - begin
    expected, found = results(whole), []
    for number in range(20):
        store = tmp_path / f"store-{number}"
        shutil.copytree(digits, store)
        moment = seconds * (number + random.Random(number).random()) / 20
        found.append(killed_at_random(store, output, (), moment))
        kept = row_files(store)
        assert run(store, output=output) == 0, output.read_text()
        assert results(store) == expected
        assert {path: row_files(store)[path] for path in kept} == kept
        assert (store / OUTCOME).exists()
        shutil.rmtree(store)
    print(f"{seconds:.1f} s undisturbed; cells committed before each kill: {found}")
    assert len(set(found)) >= 3  # the moments differ in what they hit
