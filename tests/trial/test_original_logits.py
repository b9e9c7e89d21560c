"""The original's logits: computed once, kept whole or not at all, and as good as asking it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import StoreError
from lotus_ray.base.roles import CALIBRATION, FORGET, RETAIN, ROLES
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.grid import local
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial import original_logits
from lotus_ray.trial.original_logits import LogitsFiles, stored_logits
from lotus_ray.unlearning.contract import Batch, Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.methods import METHODS
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
KEY = {"weights": "abc", "data": "def"}
TABLE = make_roles("ffrrrrrruuutt", [n % 2 for n in range(13)], 2)


def files(tmp_path: Path, **key: str) -> LogitsFiles:
    return LogitsFiles(Store.open(str(tmp_path)), {**KEY, **key}, ["a", "b", "c"])


def logits() -> Tensor:
    return torch.arange(6.0).reshape(3, 2)


def test_what_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original_logits, "_ROWS_A_SHARD", 2)
    assert files(tmp_path).read() is None
    files(tmp_path).write(logits())
    found = files(tmp_path).read()
    assert found is not None
    assert torch.equal(found, logits())
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_other_weights_and_other_samples_have_a_place_of_their_own(tmp_path: Path) -> None:
    files(tmp_path).write(logits())
    assert files(tmp_path, weights="other").read() is None
    assert replace(files(tmp_path), sample_ids=["a", "c", "b"]).read() is None


@pytest.mark.parametrize("damage", ["marker", "shard", "torn shard", "flipped bit", "torn marker"])
def test_what_is_not_whole_is_not_there_and_can_be_written_again(
    tmp_path: Path, damage: str
) -> None:
    files(tmp_path).write(logits())
    (shard,) = tmp_path.rglob("*.safetensors")
    (marker,) = tmp_path.rglob("complete.json")
    content = shard.read_bytes()
    if damage == "torn shard":
        shard.write_bytes(content[:-1])
    elif damage == "flipped bit":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "torn marker":
        marker.write_bytes(marker.read_bytes()[:20])
    else:
        (shard if damage == "shard" else marker).unlink()
    assert files(tmp_path).read() is None
    files(tmp_path).write(logits())
    found = files(tmp_path).read()
    assert found is not None
    assert torch.equal(found, logits())


def test_a_store_that_refuses_them_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, name: str, content: bytes) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "replace", refuse)
    cache, calls = known(tmp_path)
    assert sum(calls) == 13
    assert not cache.of(torch.arange(13)).isnan().any()


def known(tmp_path: Path, table: Any = TABLE) -> tuple[LogitsCache, list[int]]:
    """Return the logits that a group gets, and how many images the network was asked for."""
    dataset = make_dataset(blobs(13, 2), table)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double().requires_grad_(False)
    calls: list[int] = []
    model.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    store = Store.open(str(tmp_path))
    return stored_logits(model, table, dataset.split, store, KEY, Workers()), calls


def test_a_second_group_asks_the_network_nothing(tmp_path: Path) -> None:
    first, calls = known(tmp_path)
    again, none = known(tmp_path)
    assert (sum(calls), none) == (13, [])
    assert torch.equal(first.of(torch.arange(13)), again.of(torch.arange(13)))


def test_groups_with_other_roles_share_what_is_held_out(tmp_path: Path) -> None:
    """Another forget set, and unseen and test set swapped in part: 8 of 13 are computed."""
    known(tmp_path)
    other = make_roles("rfrfrrrrtuutu", [n % 2 for n in range(13)], 2)
    cache, calls = known(tmp_path, other)
    assert sum(calls) == 0  # the same samples to forget or to retain, too
    some = replace(other, sample_ids=["x", *other.sample_ids[1:]])
    assert sum(known(tmp_path, some)[1]) == 8
    assert not cache.of(torch.arange(13)).isnan().any()


class Asked(LogitsCache):
    """Runs the teacher on every batch, as the published code does."""

    def fill(self, split: Any) -> None:
        """Compute nothing ahead."""

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            answer: Tensor = self._model(batch.images)
        return answer


@pytest.mark.parametrize("name", ["lotus", "bad_teacher", "scrub"])
def test_stored_logits_give_the_weights_of_a_teacher_that_is_asked(name: str) -> None:
    """In float64, over three epochs of several batches each; to rounding, for batches differ."""
    dataset = make_dataset(
        blobs(60, 3), make_roles("f" * 12 + "r" * 40 + "uuuutttt", list(range(3)) * 20, 3)
    )
    model = Linear(12, 3)
    torch.manual_seed(1)
    nn.init.normal_(model.head.weight)
    results = []
    for cached in (True, False):
        problem = make_problem(copy.deepcopy(model), dataset, batch_size=7)
        if not cached:
            size = (problem.num_rows, problem.num_classes, problem.workers)
            problem.original_logits = Asked(problem.original, *size)
        options = {"class_unlearning": True} if name == "lotus" else {}
        unlearn(METHODS[name](epochs=3, lr=0.01, **options), problem)
        results.append(next(problem.model.parameters()).detach())
    assert not torch.equal(results[0], model.head.weight.double())
    assert torch.allclose(results[0], results[1], rtol=1e-10, atol=1e-12)


class Headless(nn.Module):
    """Features, then a head with weights of 0, as torchvision's ViT starts."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(12, 4)
        self.head = nn.Linear(4, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(self.features(images.flatten(1)))
        return answer


@pytest.mark.parametrize(("disturb", "asked"), [(lambda m: None, 1), (nn.init.ones_, 5)])
def test_a_constant_teacher_is_not_run(disturb: Callable[[Tensor], object], asked: int) -> None:
    """Five images to forget: a head of zeros answers its bias; one look makes sure."""
    problem = make_problem(
        Linear(12, 3), make_dataset(blobs(9, 3), make_roles("fffffruut", [0] * 9, 3))
    )
    model = Headless().double().requires_grad_(False)
    disturb(model.head.weight)
    calls: list[int] = []
    model.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    problem.random_model = lambda: model
    found = problem.random_logits(problem.forget)
    assert sum(calls) == asked
    batch = next(iter(problem.forget))
    assert torch.allclose(found(batch), model(batch.images))


def test_torchvisions_fresh_vision_transformer_is_constant() -> None:
    from torchvision.models import VisionTransformer

    from lotus_ray.unlearning.logits_cache import constant_logits

    network = VisionTransformer(8, 4, 1, 1, 8, 16, num_classes=3).eval()
    answer = constant_logits(network, "heads.head", torch.rand(1, 3, 8, 8))
    assert answer is not None
    assert torch.allclose(network(torch.rand(2, 3, 8, 8)), answer.expand(2, 3))


def rows_of(store: Path, *overrides: str) -> dict[str, Row]:
    """Run the digits job here; return its rows by method and seed."""
    data = prepare(SOURCES["digits"], store.parent / "digits")
    quick = ["epochs=1", "grid.models.0.train={epochs: 2, batch_size: 64}"]
    loaded = load_job(JOB, [*quick, "grid.models.0.options={width: 2}", *overrides])
    planned = plan(loaded, [data])
    opened = Store.open(str(store))
    for name, roles in planned.roles.items():
        opened.put(name, roles.to_parquet())
    work_orders = [
        WorkOrder(group, {cell.cell_id: 0 for cell in group.cells}, str(store))
        for group in planned.groups
    ]
    cache_space = work_orders[0].cache_space
    local.run_cells(
        [replace(work_order, cache_space=cache_space) for work_order in work_orders], Resources()
    )
    found = opened.rows().values()
    return {f"{row.method} {row.seed}": row for row in found}


def test_rows_count_what_was_decoded_and_asked(tmp_path: Path) -> None:
    """Two seeds decode each of 1,797 digits once together, and no original is asked anything.

    A random network is asked about the forget set, once a group, for a metric.
    What the student meets is what it trains on, and one evaluation of every image.
    """
    rows = rows_of(
        tmp_path / "store",
        "grid.seeds=[1,2]",
        "grid.methods=[original, {name: lotus, class_unlearning: true}, scrub]",
    )
    counters = {name: row.counters for name, row in rows.items()}
    assert sum(c["images_decoded"] for c in counters.values()) == 1797
    assert {c["unique_images"] for c in counters.values()} == {1797}
    data = prepare(SOURCES["digits"], tmp_path / "digits")
    (roles,) = plan(load_job(JOB, ["grid.seeds=[1]"]), [data]).roles.values()
    forget, retain = len(roles.indices(FORGET)), len(roles.indices(RETAIN))
    asked = {name: c["teacher_forwards"] for name, c in counters.items() if c["teacher_forwards"]}
    assert asked == {"Original 1": forget, "Original 2": forget}
    assert counters["Original 1"]["student_forwards"] == 2 * (forget + retain) + 1797
    assert len(rows["LoTUS 1"].phases) == 1
    assert counters["Original 1"]["student_backwards"] == 2 * (forget + retain)
    trained_on = counters["LoTUS 1"]["student_forwards"] - 1797
    assert counters["LoTUS 1"]["student_backwards"] == trained_on
    assert trained_on == pytest.approx(forget + 0.3 * retain, abs=10)  # 30 % of each class
    scrub = 1 * forget + 1 * retain  # an epoch of each
    assert counters["SCRUB 1"]["student_forwards"] == scrub + 1797


def test_a_dead_network_is_not_asked_about_roles_that_are_evaluated(tmp_path: Path) -> None:
    """Every role that is evaluated is in one of the sets."""
    assert {role for roles in original_logits.SETS for role in roles} == {*ROLES, CALIBRATION}
    assert {FORGET, RETAIN} in [set(roles) for roles in original_logits.SETS]
