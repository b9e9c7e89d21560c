"""A run that is cut off at a checkpoint and goes on there ends like one that was not."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from lotus_ray.base.errors import StoreError
from lotus_ray.bench.method_checks.checks import restart_differs
from lotus_ray.bench.method_checks.problems import Small
from lotus_ray.bench.method_checks.problems import problem as problem_of
from lotus_ray.bench.method_checks.two_workers import join_two
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.unlearning.checkpoint import Checkpoint
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.methods.salun import Salun
from lotus_ray.unlearning.problem import Problem
from tests.forkserver import run_two
from tests.unlearning.methods.test_contract import SETTINGS
from tests.unlearning.within import go_on_with_two

problem = partial(problem_of, network=Small)


def few_epochs(name: str) -> Method:
    """Build a method as its contract is tested, with three epochs at most, its inner one too."""
    method = METHODS[name](**SETTINGS[name])
    if isinstance(method, Salun):
        return replace(method, inner=replace(method.inner, epochs=3))  # type: ignore[call-arg]
    epochs = getattr(method, "epochs", 0)
    return replace(method, epochs=3) if epochs > 3 else method  # type: ignore[call-arg]


# Early stopping makes the original depend on what it learned, and kept, before the checkpoint.
METHOD_LIST: dict[str, Method] = {
    **{name: few_epochs(name) for name in METHODS},
    "early stopping": Original(epochs=9, lr=0.05, batch_size=16, patience=2),
    "augmented": Original(epochs=4, lr=0.05, batch_size=16, crop_padding=1, flip=True),
}


class Cut(Exception):
    """The worker dies."""


@dataclass
class CutAfter:
    """Passes checkpoints on as files do, and dies after so many."""

    phases: int
    checkpoint: Checkpoint | None = None
    offered: int = 0

    def load(self) -> Checkpoint | None:
        return self.checkpoint

    def restored(self) -> None:
        assert self.checkpoint is not None

    def step_ended(self) -> None:
        """Write nothing."""

    def wants_to_look(self) -> bool:
        return False

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        self.offered += 1
        if self.offered == self.phases:
            self.checkpoint = Checkpoint.from_bytes(checkpoint().to_bytes())
            raise Cut


def weights(stage: Problem) -> dict[str, Tensor]:
    return copy.deepcopy(stage.model.state_dict())


@pytest.mark.parametrize("name", METHOD_LIST)
def test_a_run_cut_off_at_any_checkpoint_ends_like_an_undisturbed_one(name: str) -> None:
    """Bit for bit, records too; what is left of the run trains no phase again."""
    assert not restart_differs(METHOD_LIST[name], problem)


def test_a_restart_that_forgets_the_optimizer_would_be_noticed() -> None:
    """Without the momentum of before the checkpoint the weights differ."""
    method, whole = Finetune(epochs=2, lr=0.01), problem()
    unlearn(method, whole)
    checkpoints = CutAfter(1)
    with pytest.raises(Cut):
        unlearn(method, problem(), checkpoints)
    assert checkpoints.checkpoint is not None
    fresh = torch.optim.SGD(whole.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    checkpoints.checkpoint = replace(checkpoints.checkpoint, optimizers=[fresh.state_dict()])
    checkpoints.phases = -1
    stage = problem()
    unlearn(method, stage, checkpoints)
    assert not torch.equal(weights(stage)["fc.weight"], weights(whole)["fc.weight"])


def test_dropout_draws_the_same_after_a_restart() -> None:
    """Random layers are seeded anew in each phase, so that any phase can be the first."""

    def noisy() -> Problem:
        stage = problem()
        stage.model.fc = nn.Sequential(nn.Dropout(0.5), stage.model.fc)  # type: ignore[assignment]
        return stage

    method, whole, checkpoints = Finetune(epochs=2, lr=0.01), noisy(), CutAfter(1)
    records = unlearn(method, whole)
    with pytest.raises(Cut):
        unlearn(method, noisy(), checkpoints)
    checkpoints.phases = -1
    assert unlearn(method, noisy(), checkpoints) == records


@pytest.mark.parametrize("name", ["bad_teacher", "scrub", "lotus"])
def test_a_teacher_answers_the_same_after_a_restart(name: str) -> None:
    """In float32 and with batches of three rows: some hold a single retain row, or forget row.

    A network rounds otherwise where a batch has another make-up, and a resumed run meets other
    batches first; so the teacher has to be asked in an order that does not depend on the run.
    """

    def single() -> Problem:
        stage = problem(batch_size=3, dtype=torch.float32)
        teacher = copy.deepcopy(stage.original)
        return replace(stage, random_model=lambda: teacher)

    method, whole, checkpoints = METHODS[name](epochs=3, lr=1e-3), single(), CutAfter(2)  # type: ignore[call-arg]
    records = unlearn(method, whole)
    with pytest.raises(Cut):
        unlearn(method, single(), checkpoints)
    checkpoints.phases, stage = -1, single()
    assert unlearn(method, stage, checkpoints) == records
    expected, found = weights(whole), weights(stage)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


CPU = torch.device("cpu")


def stored(store: Path, clock: Clock, every: float = 0, workers: Workers | None = None):  # type: ignore[no-untyped-def]
    opened = Store.open(str(store))
    return StoredCheckpoints(opened, "borders/cell/0000.pt", workers or Workers(), clock, every)


def cut_off(store: Path, clock: Clock) -> list[object]:
    """Run one phase of three, keep its checkpoint, and die in the second."""
    checkpoints = stored(store, clock)
    records: list[object] = []

    def save_if_due(checkpoint: Callable[[], Checkpoint]) -> None:
        StoredCheckpoints.save_if_due(checkpoints, checkpoint)
        records.extend(checkpoint().records)
        raise Cut

    checkpoints.save_if_due = save_if_due
    with clock.measure("unlearn"), pytest.raises(Cut), checkpoints:
        unlearn(Finetune(epochs=3, lr=0.01), problem(), checkpoints)
    return records


def test_a_resumed_run_counts_what_led_to_the_checkpoint_and_not_the_replay(tmp_path: Path) -> None:
    """The time of the method's own preparation is not counted twice."""
    first, second = Clock(CPU), Clock(CPU)
    records = cut_off(tmp_path, first)
    checkpoints = stored(tmp_path, second)
    with second.measure("unlearn"):
        checkpoint = checkpoints.load()
        time.sleep(0.2)  # the replay
        checkpoints.restored()
    assert checkpoint.records == records
    assert checkpoints.resumed_at == 1
    assert (
        checkpoint.seconds["unlearn"]
        <= second.seconds["unlearn"]
        < checkpoint.seconds["unlearn"] + 0.1
    )
    assert second.seconds["checkpoint"] >= 0.2


def test_a_store_that_refuses_a_checkpoint_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    checkpoints = stored(tmp_path, Clock(CPU))
    monkeypatch.setattr(Store, "replace", full)
    with checkpoints:
        assert len(unlearn(Finetune(epochs=3, lr=0.01), problem(), checkpoints)) == 3


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), StoreError("broken")])
def test_a_checkpoint_that_cannot_be_read_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(Store, "find", broken)
    assert stored(tmp_path, Clock(CPU)).load() is None


@pytest.mark.parametrize("place", [0, 60, 90, -1])
def test_a_torn_checkpoint_is_ignored(tmp_path: Path, place: int) -> None:
    """A flipped byte in the head, the digest or the content: the run starts from its beginning."""
    cut_off(tmp_path, Clock(CPU))
    file = tmp_path / "borders/cell/0000.pt"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert stored(tmp_path, Clock(CPU)).load() is None
    file.write_bytes(content[: len(content) // 2])
    assert stored(tmp_path, Clock(CPU)).load() is None


def test_checkpoints_are_kept_no_more_often_than_asked(tmp_path: Path) -> None:
    with stored(tmp_path, Clock(CPU), every=3600) as checkpoints:
        unlearn(Finetune(epochs=3, lr=0.01), problem(), checkpoints)
    assert not (tmp_path / "borders").exists()


@pytest.mark.parametrize("size", [1, 2])
def test_a_checkpoint_is_written_while_the_next_phase_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Of several workers too, whose phases may be too short for a look at the time."""
    written: list[int] = []
    monkeypatch.setattr(
        StoredCheckpoints, "_write", lambda _, checkpoint: written.append(len(checkpoint.records))
    )
    workers = Workers(size=size)
    with stored(tmp_path, Clock(CPU), workers=workers) as checkpoints:
        unlearn(Finetune(epochs=3, lr=0.01), problem(workers), checkpoints)
    assert written[-1] == 2  # and none after the last step


def test_every_checkpoint_is_kept_once_a_machine_is_to_go(tmp_path: Path) -> None:
    """It is known at the end of the second phase of three. Both workers ask as often."""
    asked: list[bool] = []

    def leaving() -> bool:
        asked.append((tmp_path / "borders").exists())
        return len(asked) >= 2

    workers = Workers(leaving=leaving)
    with stored(tmp_path, Clock(CPU), every=3600, workers=workers) as checkpoints:
        unlearn(Finetune(epochs=3, lr=0.01), problem(), checkpoints)
    assert (asked[:2], len(asked)) == ([False, False], 3)
    checkpoint = stored(tmp_path, Clock(CPU)).load()
    assert len(checkpoint.records) == 3
    other = stored(tmp_path / "other", Clock(CPU), 3600, replace(workers, rank=1, size=2))
    other.save_if_due(Checkpoint)  # type: ignore[arg-type]
    assert len(asked) == 4
    assert not (tmp_path / "other").exists()


def test_every_worker_goes_on_from_the_checkpoint_of_the_first(tmp_path: Path) -> None:
    """What the first one sums into the group is what the second one gets back."""
    cut_off(tmp_path, Clock(CPU))
    shared: list[Tensor] = []

    def told(value: Tensor) -> Tensor:
        shared.append(value.clone())
        return value

    first = stored(tmp_path, Clock(CPU), workers=Workers(0, 2, sum=told)).load()
    second = stored(
        tmp_path / "elsewhere", Clock(CPU), workers=Workers(1, 2, sum=lambda _: shared.pop(0))
    ).load()
    assert first.records == second.records
    assert all(torch.equal(second.model[key], value) for key, value in first.model.items())


def _rank(rank: int, folder: str, checkpoints: dict[str, bytes]) -> None:
    """Go on from the checkpoint of each method with one of two workers, for a phase."""
    workers = join_two(rank, folder)
    for name, content in checkpoints.items():
        cut = CutAfter(1, Checkpoint.from_bytes(content))
        with contextlib.suppress(Cut):
            unlearn(METHOD_LIST[name], problem(workers), cut)
        if rank == 0:
            assert cut.checkpoint is not None
            Path(folder, f"{name}.pt").write_bytes(cut.checkpoint.to_bytes())
    go_on_with_two(workers, Path(folder, f"within-{rank}.pt"))
    torch.distributed.destroy_process_group()


# Those that keep an optimizer, a mask, numbers or weights from phase to phase.
KEEPING = ("scrub", "salun", "unsir", "lotus", "early stopping", "augmented")


@pytest.fixture(scope="module")
def after_two_phases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints after a phase of one worker and a phase of two, as NAME.pt."""
    folder, first = tmp_path_factory.mktemp("gloo"), {}
    for name in KEEPING:
        cut = CutAfter(1)
        with pytest.raises(Cut):
            unlearn(METHOD_LIST[name], problem(), cut)
        assert cut.checkpoint is not None
        # As bytes: processes would share its tensors, and both would change its momentum.
        first[name] = cut.checkpoint.to_bytes()
    run_two(_rank, str(folder), first)
    return folder


@pytest.mark.parametrize("name", KEEPING)
def test_a_checkpoint_serves_another_number_of_workers(name: str, after_two_phases: Path) -> None:
    """One worker for a phase, two for the next, one for the rest: the weights of one throughout."""
    method, whole, stage = METHOD_LIST[name], problem(), problem()
    records = unlearn(method, whole)
    assert len(records) >= 3
    checkpoint = Checkpoint.from_bytes((after_two_phases / f"{name}.pt").read_bytes())
    assert len(checkpoint.records) == 2
    unlearn(method, stage, CutAfter(-1, checkpoint))
    expected, found = weights(whole), weights(stage)
    for key, value in expected.items():
        assert torch.allclose(found[key].double(), value.double(), rtol=1e-6, atol=1e-9), key


def test_two_workers_go_on_at_the_same_step(after_two_phases: Path) -> None:
    """Each has dropout of its own. In the sixteenth step both know what the first one wanted."""
    first, second = (torch.load(after_two_phases / f"within-{rank}.pt") for rank in range(2))
    assert first == second
    steps, same, losses = first
    assert steps == [16, 24, 16, 24]
    assert same == [True] * 8
    assert list(map(len, losses)) == [24, 24]
