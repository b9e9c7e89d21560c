"""A run that is cut off within a phase and goes on at that step ends like one that was not."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.roles import RETAIN
from lotus_ray.bench.method_checks.checkpoints import KeptWithin, Resumed
from lotus_ray.bench.method_checks.checks import restart_within_differs
from lotus_ray.bench.method_checks.problems import IMAGES, ROLES, Small
from lotus_ray.bench.method_checks.problems import problem as problem_of
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.unlearning.augment import Augmented
from lotus_ray.unlearning.checkpoint import Checkpoint
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.amun import Amun
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.problem import Problem
from lotus_ray.unlearning.progress import skip
from lotus_ray.unlearning.schedule import Scheduled
from tests.toy import make_dataset
from tests.unlearning.test_restart import METHOD_LIST
from tests.unlearning.within import equal, noisy

problem = partial(problem_of, network=Small)
CPU = torch.device("cpu")
# Each is another way of making batches, of setting rates, or of editing gradients.
WITHIN = (
    *("finetune", "scrub", "lotus", "salun", "unsir", "neggrad_plus", "sfron", "fcs", "amun"),
    *("certified_noise", "cf_k", "jit", "early stopping", "augmented"),
)


def check_goes_on(method: Method, fresh: Callable[[], Problem], most: int = 2) -> list[bytes]:
    """Go on from some of the checkpoints within phases; return all of them."""
    kept = KeptWithin()
    assert not restart_within_differs(method, fresh, kept, most)
    return kept.contents


@pytest.mark.parametrize("name", WITHIN)
def test_a_run_goes_on_at_the_step_where_it_was_cut_off(name: str) -> None:
    """Bit for bit, records too. There is a checkpoint after each step of each phase."""
    method, last = METHOD_LIST[name], problem()
    if isinstance(method, Amun):
        method = replace(method, attack_steps=2)
    steps = sum(len(record.losses) for record in unlearn(method, last))
    assert len(check_goes_on(method, problem)) == steps


def test_what_is_left_to_a_step_is_not_run_again() -> None:
    """Of twenty-four steps twenty are done: the network sees the images of four."""
    method, kept, seen = Finetune(epochs=1, lr=0.01), KeptWithin(), list[int]()
    unlearn(method, problem(batch_size=2), kept)
    stage = problem(batch_size=2)
    stage.model.register_forward_hook(lambda _, images, out: seen.append(len(images[0])))
    unlearn(method, stage, Resumed(kept.contents[19]))
    assert seen == [2] * 4


def test_dropout_draws_on_where_it_was_cut_off() -> None:
    """Without the state of its generator it would draw otherwise."""
    method = Finetune(epochs=2, lr=0.01)
    contents = check_goes_on(method, noisy)
    whole, stage = noisy(), noisy()
    unlearn(method, whole)
    torn = replace(Checkpoint.from_bytes(contents[10]), random={})
    unlearn(method, stage, Resumed(torn.to_bytes()))
    assert not equal(stage, whole)


def test_a_phase_that_keeps_something_else_is_left_to_its_end() -> None:
    """MUNBa's notes count over the steps of a phase."""
    kept = KeptWithin()
    unlearn(METHOD_LIST["munba"], problem(), kept)
    assert kept.contents == []


def test_batches_are_skipped_without_decoding() -> None:
    """Of an epoch, of one with random crops, and of one whose steps set a rate."""
    dataset = make_dataset(IMAGES, ROLES, seed=5)
    assert isinstance(dataset.pixels, Pixels)
    epoch = dataset.split(RETAIN).shuffled(5, "x")
    black = dataset.pixel_range[0]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=9.0)
    rates = Scheduled(Augmented(epoch, 1, True, black, ("y",)), optimizer, float, 3)
    expected = [(batch.images, optimizer.param_groups[0]["lr"]) for batch in rates][4:]
    optimizer.param_groups[0]["lr"] = 9.0
    decoded: list[int] = []
    image: Any = dataset.pixels.image  # type: ignore[attr-defined]
    object.__setattr__(dataset.pixels, "image", lambda row: decoded.append(row) or image(row))
    left = skip(rates, 4)
    assert optimizer.param_groups[0]["lr"] == 9.0
    found = [(batch.images, optimizer.param_groups[0]["lr"]) for batch in left]
    assert len(decoded) == sum(len(images) for images, _ in expected) < 48
    assert [rate for _, rate in found] == [rate for _, rate in expected]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(found, expected, strict=True))


def stored(store: Path, clock: Clock, workers: Workers | None = None) -> StoredCheckpoints:
    """Return a store of checkpoints that are due after each step."""
    name = "borders/cell/0000.pt"
    opened = Store.open(str(store))
    return StoredCheckpoints(opened, name, workers or Workers(), clock, 0, look_seconds=0)


def test_a_cell_goes_on_from_a_checkpoint_within_its_phase(tmp_path: Path) -> None:
    """The process dies in the twentieth step of the second phase."""
    method, whole, stage = Finetune(epochs=2, lr=0.01), noisy(), noisy()
    records = unlearn(method, whole)
    seen: list[int] = []

    def die(module: nn.Module, images: tuple[Tensor], logits: Tensor) -> None:
        seen.append(len(images[0]))
        if len(seen) == 24 + 20:
            raise KeyboardInterrupt

    dying = noisy()
    dying.model.register_forward_hook(die)
    with pytest.raises(KeyboardInterrupt), stored(tmp_path, Clock(CPU)) as checkpoints:
        unlearn(method, dying, checkpoints)
    clock = Clock(CPU)
    seen.clear()
    stage.model.register_forward_hook(lambda _, images, out: seen.append(len(images[0])))
    with clock.measure("unlearn"), stored(tmp_path, clock) as checkpoints:
        assert unlearn(method, stage, checkpoints) == records
    assert equal(stage, whole)
    assert checkpoints.resumed_at == 1
    assert 5 <= len(seen) < 24


def test_a_run_does_not_wait_for_a_checkpoint_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write ends only once the run is at the end of its third phase."""
    written, ended, threads = list[bool](), threading.Event(), set[int]()
    replace_, borders = Store.replace, list[int]()

    def slow(self: Store, name: str, content: bytes) -> None:
        threads.add(threading.get_ident())
        written.append(ended.wait(timeout=10))
        replace_(self, name, content)

    def leaving() -> bool:
        borders.append(1)
        if len(borders) == 4:  # after the first step, and at the end of each phase
            assert not list(tmp_path.rglob("*.pt"))
            ended.set()
        return False

    monkeypatch.setattr(Store, "replace", slow)
    clock, method = Clock(CPU), Finetune(epochs=4, lr=0.01)
    with stored(tmp_path, clock, Workers(leaving=leaving)) as checkpoints:
        unlearn(method, problem(), checkpoints)
    assert set(written) == {True}
    assert threading.get_ident() not in threads
    assert len(threads) == 1
    assert clock.seconds["checkpoint"] < 5


def test_no_checkpoint_is_written_after_the_last_step(tmp_path: Path) -> None:
    """Not after the step, nor at the end of the phase: nobody would go on from there."""
    with stored(tmp_path, Clock(CPU)) as checkpoints:
        records = unlearn(Finetune(epochs=1, lr=0.01), problem(batch_size=2), checkpoints)
    last = stored(tmp_path, Clock(CPU)).load()
    assert last is not None
    assert last.records == []
    assert last.losses == records[0].losses[: len(last.losses)]
    assert 0 < len(last.losses) < len(records[0].losses)


def test_an_error_that_is_none_of_the_store_is_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(Store, "replace", broken)
    with pytest.raises(ValueError, match="a mistake of ours"), stored(tmp_path, Clock(CPU)) as kept:
        unlearn(Finetune(epochs=2, lr=0.01), problem(), kept)


def test_a_copy_does_not_change_as_the_run_goes_on() -> None:
    stage = problem()
    optimizer = torch.optim.Adam(stage.model.parameters())
    copied = Checkpoint.of(stage, [optimizer], []).on_cpu()
    before = copied.model["fc.weight"].clone()
    with torch.no_grad():
        stage.model.fc.weight.add_(1.0)
    assert torch.equal(copied.model["fc.weight"], before)
    stage.model.load_state_dict(copied.model)
    assert torch.equal(stage.model.fc.weight, before)


def test_a_checkpoint_at_the_end_of_a_phase_has_the_fields_of_earlier_versions() -> None:
    """They read those of this one, and this one reads theirs."""
    stage = problem()
    content = Checkpoint.of(stage, [], []).to_bytes()
    fields = {"records", "model", "optimizers", "answers", "kept", "seconds"}
    assert set(torch.load(io.BytesIO(content), weights_only=True)) == fields
    assert Checkpoint.from_bytes(content).losses == []
