"""A run that is cut off at a phase border and goes on there ends like one that was not."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.base.errors import StoreError
from lotus_ray.models.batch_norm import synchronise_batch_norm
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredBorders
from lotus_ray.unlearning.checkpoint import Border
from lotus_ray.unlearning.engine import Clock, unlearn
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.problem import Method, Problem, Workers
from tests.gloo import join_two
from tests.unlearning.methods.test_contract import SETTINGS, problem

# Early stopping makes the original depend on what it learned, and kept, before the border.
METHOD_LIST: dict[str, Method] = {
    **{name: METHODS[name](**SETTINGS[name]) for name in METHODS},
    "early stopping": Original(epochs=9, lr=0.05, batch_size=16, patience=2),
    "augmented": Original(epochs=4, lr=0.05, batch_size=16, crop_padding=1, flip=True),
}


class Cut(Exception):
    """The worker dies."""


@dataclass
class CutAfter:
    """Passes borders on as files do, and dies after so many."""

    phases: int
    border: Border | None = None
    offered: int = 0

    def load(self) -> Border | None:
        return self.border

    def reached(self) -> None:
        assert self.border is not None

    def offer(self, border: Callable[[], Border]) -> None:
        self.offered += 1
        if self.offered == self.phases:
            self.border = Border.from_bytes(border().to_bytes())
            raise Cut


def weights(stage: Problem) -> dict[str, Tensor]:
    return copy.deepcopy(stage.model.state_dict())


@pytest.mark.parametrize("name", METHOD_LIST)
def test_a_run_cut_off_at_any_border_ends_like_an_undisturbed_one(name: str) -> None:
    """Bit for bit, records too; what is left of the run trains no phase again."""
    method, whole = METHOD_LIST[name], problem()
    records = unlearn(method, whole)
    assert len(records) > 0 or name == "ssd"  # edits weights once and trains nothing
    for phases in range(1, len(records) + 1):
        keeper = CutAfter(phases)
        with pytest.raises(Cut):
            unlearn(method, problem(), keeper)
        stage = problem()
        keeper.phases = -1
        keeper.offered = 0
        assert unlearn(method, stage, keeper) == records
        assert keeper.offered == len(records) - phases
        expected, found = weights(whole), weights(stage)
        assert all(torch.equal(found[key], expected[key]) for key in expected), phases


def test_a_restart_that_forgets_the_optimizer_would_be_noticed() -> None:
    """Without the momentum of before the border the weights differ."""
    method, whole = Finetune(epochs=2, lr=0.01), problem()
    unlearn(method, whole)
    keeper = CutAfter(1)
    with pytest.raises(Cut):
        unlearn(method, problem(), keeper)
    assert keeper.border is not None
    fresh = torch.optim.SGD(whole.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    keeper.border = replace(keeper.border, optimizers=[fresh.state_dict()])
    keeper.phases = -1
    stage = problem()
    unlearn(method, stage, keeper)
    assert not torch.equal(weights(stage)["fc.weight"], weights(whole)["fc.weight"])


def test_dropout_draws_the_same_after_a_restart() -> None:
    """Random layers are seeded anew in each phase, so that any phase can be the first."""

    def noisy() -> Problem:
        stage = problem()
        stage.model.fc = nn.Sequential(nn.Dropout(0.5), stage.model.fc)  # type: ignore[assignment]
        return stage

    method, whole, keeper = Finetune(epochs=2, lr=0.01), noisy(), CutAfter(1)
    records = unlearn(method, whole)
    with pytest.raises(Cut):
        unlearn(method, noisy(), keeper)
    keeper.phases = -1
    assert unlearn(method, noisy(), keeper) == records


@pytest.mark.parametrize("name", ["bad_teacher", "scrub", "lotus"])
def test_a_teacher_answers_the_same_after_a_restart(name: str) -> None:
    """In float32 and with batches of three rows: some hold a single retain row, or forget row.

    A network rounds otherwise where a batch has another make-up, and a resumed run meets other
    batches first; so the teacher has to be asked in an order that does not depend on the run.
    """

    def single() -> Problem:
        stage = problem()
        stage = replace(
            stage,
            model=stage.model.float(),
            original=stage.original.float(),
            batch_size=3,
            random_model=lambda: copy.deepcopy(stage.original).float().requires_grad_(False),
        )
        for role in ("forget", "retain", "unseen", "calibration"):
            split = getattr(stage, role)
            split.warm.dtype = torch.float32
            split.warm._scale = split.warm._scale.float()
            split.warm._shift = split.warm._shift.float()
        return stage

    method, whole, keeper = METHODS[name](epochs=3, lr=1e-3), single(), CutAfter(2)  # type: ignore[call-arg]
    records = unlearn(method, whole)
    with pytest.raises(Cut):
        unlearn(method, single(), keeper)
    keeper.phases, stage = -1, single()
    assert unlearn(method, stage, keeper) == records
    expected, found = weights(whole), weights(stage)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


CPU = torch.device("cpu")


def stored(store: Path, clock: Clock, every: float = 0, workers: Workers | None = None):  # type: ignore[no-untyped-def]
    opened = Store.open(str(store))
    return StoredBorders(opened, "borders/cell/0000.pt", workers or Workers(), clock, every)


def cut_off(store: Path, clock: Clock) -> list[object]:
    """Run one phase of three, keep its border, and die in the second."""
    keeper = stored(store, clock)
    records: list[object] = []

    def offer(border: Callable[[], Border]) -> None:
        StoredBorders.offer(keeper, border)
        records.extend(border().records)
        raise Cut

    keeper.offer = offer
    with clock.measure("unlearn"), pytest.raises(Cut):
        unlearn(Finetune(epochs=3, lr=0.01), problem(), keeper)
    return records


def test_a_resumed_run_counts_what_led_to_the_border_and_not_the_replay(tmp_path: Path) -> None:
    """The time of the method's own preparation is not counted twice."""
    first, second = Clock(CPU), Clock(CPU)
    records = cut_off(tmp_path, first)
    keeper = stored(tmp_path, second)
    with second.measure("unlearn"):
        border = keeper.load()
        time.sleep(0.2)  # the replay
        keeper.reached()
    assert border.records == records
    assert keeper.resumed_at == 1
    assert border.seconds["unlearn"] <= second.seconds["unlearn"] < border.seconds["unlearn"] + 0.1
    assert second.seconds["checkpoint"] >= 0.2


def test_a_store_that_refuses_a_border_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    keeper = stored(tmp_path, Clock(CPU))
    monkeypatch.setattr(Store, "replace", full)
    assert len(unlearn(Finetune(epochs=3, lr=0.01), problem(), keeper)) == 3


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), StoreError("broken")])
def test_a_border_that_cannot_be_read_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(Store, "find", broken)
    assert stored(tmp_path, Clock(CPU)).load() is None


@pytest.mark.parametrize("place", [0, 60, 90, -1])
def test_a_torn_border_is_ignored(tmp_path: Path, place: int) -> None:
    """A flipped byte in the head, the digest or the content: the run starts from its beginning."""
    cut_off(tmp_path, Clock(CPU))
    file = tmp_path / "borders/cell/0000.pt"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert stored(tmp_path, Clock(CPU)).load() is None
    file.write_bytes(content[: len(content) // 2])
    assert stored(tmp_path, Clock(CPU)).load() is None


def test_borders_are_kept_no_more_often_than_asked(tmp_path: Path) -> None:
    keeper = stored(tmp_path, Clock(CPU), every=3600)
    unlearn(Finetune(epochs=3, lr=0.01), problem(), keeper)
    assert not (tmp_path / "borders").exists()


def test_every_border_is_kept_once_a_machine_is_to_go(tmp_path: Path) -> None:
    """It is known at the end of the second phase of three. Both workers ask as often."""
    asked: list[int] = []

    def leaving() -> bool:
        asked.append(len(list(tmp_path.rglob("*.pt"))))
        return len(asked) >= 2

    workers = Workers(leaving=leaving)
    keeper = stored(tmp_path, Clock(CPU), every=3600, workers=workers)
    unlearn(Finetune(epochs=3, lr=0.01), problem(), keeper)
    assert asked == [0, 0, 1]
    border = stored(tmp_path, Clock(CPU)).load()
    assert len(border.records) == 3
    other = stored(tmp_path / "other", Clock(CPU), 3600, replace(workers, rank=1, size=2))
    other.offer(Border)  # type: ignore[arg-type]
    assert len(asked) == 4
    assert not (tmp_path / "other").exists()


def test_every_worker_goes_on_from_the_border_of_the_first(tmp_path: Path) -> None:
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


def _rank(rank: int, folder: str, name: str, border: bytes) -> None:
    """Go on from a border with one of two workers, for a phase."""
    join_two(rank, folder)

    def sum_(tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    def replicate(model: nn.Module) -> nn.Module:
        synchronise_batch_norm(model, CPU)
        return DistributedDataParallel(model, broadcast_buffers=False)

    keeper = CutAfter(1, Border.from_bytes(border))
    with contextlib.suppress(Cut):
        unlearn(METHOD_LIST[name], problem(Workers(rank, 2, sum_, replicate)), keeper)
    if rank == 0:
        assert keeper.border is not None
        Path(folder, "border.pt").write_bytes(keeper.border.to_bytes())
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "name", ["scrub", "salun", "unsir", "lotus", "early stopping", "augmented"]
)
def test_a_border_serves_another_number_of_workers(name: str, tmp_path: Path) -> None:
    """One worker for a phase, two for the next, one for the rest: the weights of one throughout.

    Those that keep an optimizer, a mask, numbers or weights from phase to phase.
    """
    method, whole, first = METHOD_LIST[name], problem(), CutAfter(1)
    records = unlearn(method, whole)
    assert len(records) >= 3
    with pytest.raises(Cut):
        unlearn(method, problem(), first)
    assert first.border is not None
    # As bytes: processes would share its tensors, and both would change its momentum.
    arguments = (str(tmp_path), name, first.border.to_bytes())
    torch.multiprocessing.spawn(_rank, args=arguments, nprocs=2)  # type: ignore[attr-defined]
    border = Border.from_bytes((tmp_path / "border.pt").read_bytes())
    assert len(border.records) == 2
    stage = problem()
    unlearn(method, stage, CutAfter(-1, border))
    expected, found = weights(whole), weights(stage)
    for key, value in expected.items():
        assert torch.allclose(found[key].double(), value.double(), rtol=1e-6, atol=1e-9), key
