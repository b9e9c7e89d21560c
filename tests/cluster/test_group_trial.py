"""What a group's driver does when its workers die: no Ray is started here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

from ray.train import WorkerGroupError

from lotus_ray.base.errors import (
    ArtifactDamaged,
    ClusterError,
    DataError,
    StoreError,
    StoreUnreachable,
)
from lotus_ray.cluster.causes import explain
from lotus_ray.cluster.group_trial import run_group_trial
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredCheckpoints

JOB = Path(__file__).parent.parent.parent / "jobs" / "digits.yaml"


@pytest.fixture
def work_order(tmp_path: Path) -> WorkOrder:
    manifest = prepare(SOURCES["digits"], tmp_path / "digits")
    planned = plan(load_job(JOB, ["grid.methods=[original, finetune, lotus]"]), [manifest])
    store = Store.open(str(tmp_path / "store"))
    for name, roles in planned.roles.items():
        store.put(name, roles.to_parquet())
    group = planned.groups[0]
    return WorkOrder(group, {cell.cell_id: 0 for cell in group.cells}, store.location)


def test_the_cell_that_kills_its_workers_fails_and_the_others_go_on(
    work_order: WorkOrder,
) -> None:
    """The workers die while Finetuning runs; the next worker group does what is left."""
    store = Store.open(work_order.store)
    groups: list[list[str]] = []

    def fit() -> None:
        left = [cell for cell in work_order.group.cells if not work_order.is_settled(cell, store)]
        groups.append([cell.label for cell in left])
        for cell in left:
            attempt = store.begin(cell.cell_id, 0, {})
            if cell.label == "Finetuning":
                store.begin(cell.cell_id, 0, {})  # Ray restarts the workers twice
                store.begin(cell.cell_id, 0, {})
                raise WorkerGroupError("died", {1: OSError("second"), 0: MemoryError("first")})
            store.commit(attempt, {"status": "ok", "method": cell.label}, {})

    run_group_trial(work_order, fit)
    rows = {row.method: row for row in store.rows().values()}
    assert groups == [["Original", "Finetuning", "LoTUS"], ["LoTUS"]]
    assert {name: row.status for name, row in rows.items()} == {
        "Original": "ok",
        "Finetuning": "oom",
        "LoTUS": "ok",
    }
    assert rows["Finetuning"].error.type == "MemoryError"  # of the lowest rank


def test_deaths_are_counted_by_cell(work_order: WorkOrder) -> None:
    """Each cell dies once, more often in all than Ray restarts a worker group: none fails."""
    store = Store.open(work_order.store)
    died: list[str] = []

    def fit() -> None:
        for cell in work_order.group.cells:
            if not work_order.is_settled(cell, store):
                attempt = store.begin(cell.cell_id, 0, {})
                if cell.label not in died:
                    died.append(cell.label)
                    raise WorkerGroupError("died", {0: OSError("killed")})
                store.commit(attempt, {"status": "ok", "method": cell.label}, {})

    run_group_trial(work_order, fit)
    assert died == ["Original", "Finetuning", "LoTUS"]
    assert [(row.status, row.attempts) for row in store.rows().values()] == [("ok", 2)] * 3


def test_a_cell_that_comes_further_each_time_is_not_given_up(
    work_order: WorkOrder,
) -> None:
    """Six deaths, each after another checkpoint; then three at the same one, and it fails."""
    store = Store.open(work_order.store)
    deaths = [0]

    def fit() -> None:
        left = [cell for cell in work_order.group.cells if not work_order.is_settled(cell, store)]
        attempt = store.begin(left[0].cell_id, 0, {})
        if left[0].label != "Original":
            return store.commit(attempt, {"status": "ok", "method": left[0].label}, {})
        deaths[0] += 1
        if deaths[0] <= 6:
            store.replace(StoredCheckpoints.file_name(left[0].cell_id, 0), b"%d" % deaths[0])
        raise WorkerGroupError("died", {0: OSError("killed")})

    run_group_trial(work_order, fit)
    assert deaths == [9]
    rows = {row.method: row.status for row in store.rows().values()}
    assert rows == {"Original": "failed", "Finetuning": "ok", "LoTUS": "ok"}
    assert store.objects.names("borders/") == []


def test_growing_is_no_death(work_order: WorkOrder) -> None:
    """No checkpoint in a long phase: a cell that was begun anew with 2 and 3 workers died once.

    Other cells of the group had died before. Deaths of its own end it nevertheless: two more.
    """
    store = Store.open(work_order.store)
    groups = [(1, 2, 3), (3,), (1,), (2, 3)]  # workers of each try until the group is given up

    def fit() -> None:
        cell = next(
            cell for cell in work_order.group.cells if not work_order.is_settled(cell, store)
        )
        for workers in groups.pop(0) if cell.label == "Original" else [1]:
            attempt = store.begin(cell.cell_id, 0, {"resources": {"workers": workers}})
            time.sleep(0.002)  # moments are kept to the millisecond
        if cell.label == "Original":
            raise WorkerGroupError("died", {0: OSError("killed")})
        store.commit(attempt, {"status": "ok", "method": cell.label}, {})

    run_group_trial(work_order, fit)
    assert groups == [(2, 3)]  # (1, 2, 3) is one death, (3,) the second, (1,) the third
    rows = {row.method: row.status for row in store.rows().values()}
    assert rows == {"Original": "failed", "Finetuning": "ok", "LoTUS": "ok"}


def test_workers_that_never_start_do_not_loop_for_ever(
    work_order: WorkOrder,
) -> None:
    """Nor are they a fault of the cells: the group ends, and the same command goes on."""
    groups = []

    def fit() -> None:
        groups.append(1)
        raise WorkerGroupError("no start", {1: OSError("second"), 0: MemoryError("killed\nfirst")})

    with pytest.raises(ClusterError) as raised:
        run_group_trial(work_order, fit)
    assert raised.value.exit_code == 6
    assert raised.value.what == (
        f"the workers of {work_order.group.name} died before they began a cell, 3 times: "
        "MemoryError: first"
    )
    assert "again" in raised.value.next_command
    assert len(groups) == 3
    assert Store.open(work_order.store).rows() == {}


def test_a_death_before_the_next_cell_begins_is_no_fault_of_it(
    work_order: WorkOrder,
) -> None:
    """Groups that die twice before each cell, the first time right after the row of another."""
    store = Store.open(work_order.store)
    groups: list[bool] = [False, False, True] * 3  # whether it begins a cell

    def fit() -> None:
        if groups.pop(0):
            cell = next(
                cell for cell in work_order.group.cells if not work_order.is_settled(cell, store)
            )
            attempt = store.begin(cell.cell_id, 0, {})
            store.commit(attempt, {"status": "ok", "method": cell.label}, {})
        raise WorkerGroupError("died", {0: OSError("killed")})

    run_group_trial(work_order, fit)
    assert groups == []
    assert [(row.status, row.attempts) for row in store.rows().values()] == [("ok", 1)] * 3


def test_workers_that_start_no_more_after_a_death_do_not_loop_for_ever(
    work_order: WorkOrder,
) -> None:
    """The cell died once, which is not too often; then no group begins it again."""
    store, groups = Store.open(work_order.store), []

    def fit() -> None:
        groups.append(1)
        if len(groups) == 1:
            store.begin(work_order.group.cells[0].cell_id, 0, {})
        raise WorkerGroupError("died", {0: OSError("killed")})

    with pytest.raises(ClusterError, match="died before they began a cell, 3 times"):
        run_group_trial(work_order, fit)
    assert len(groups) == 4
    assert store.rows() == {}


@pytest.mark.parametrize("kind", [StoreUnreachable, ArtifactDamaged, StoreError])
def test_a_store_that_does_not_answer_fails_no_cell(
    work_order: WorkOrder, kind: type[StoreError]
) -> None:
    """It ends the group with the store's own error, so that the same command goes on."""

    def fit() -> None:
        raise WorkerGroupError("died", {1: OSError("killed"), 0: kind("HTTP 503")})

    with pytest.raises(kind, match="HTTP 503") as caught:
        run_group_trial(work_order, fit)
    assert caught.value.exit_code == 5
    assert Store.open(work_order.store).rows() == {}


def test_our_own_error_is_found_below_what_ray_wraps_it_in() -> None:
    """A corrupt image in a Ray Data task reaches the command as itself, with its exit code."""
    ours = DataError("an image cannot be decoded", where="sample x")
    task = RuntimeError("task failed")
    task.__cause__ = ours
    trial = RuntimeError("trial failed")
    trial.cause = task  # type: ignore[attr-defined]
    assert explain(trial, "1 of 1 groups ended early") is ours
    other = explain(RuntimeError("first\nlast line"), "1 of 1 groups ended early")
    assert other.exit_code == 6
    assert "1 of 1 groups ended early: RuntimeError: last line" in str(other)
