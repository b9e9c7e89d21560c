"""The relearn curve of a cell: what it tells apart, and that it changes nothing else."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from lotus_ray.base.roles import FORGET, ROLES, STORED, TEST, UNSEEN
from lotus_ray.bench.method_checks.two_workers import join_two
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.grid import local
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.schema.relearn import Relearn
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.relearn import mean_over_steps, points
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.report.collect import collect
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial import cell as trial_cell
from lotus_ray.trial.relearn import MeasuredImages, curve_of, relearn_curve, right_by_class
from lotus_ray.unlearning.contract import Workers
from tests.toy import make_dataset, make_problem, make_roles

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
QUICK = [
    "grid.methods=[gold, finetune]",
    "batch_size=32",
    "epochs=1",
    "grid.models.0.train={epochs: 1, batch_size: 32}",
    "grid.models.0.options={width: 2}",
]
SHORT = "relearn={images: 20, batch_size: 8, steps: 5, every: 2, evaluated: 30}"
CLASSES = 4


def test_a_mean_over_steps_by_hand() -> None:
    """(4·(.5 + 1)/2 + 4·1 + 2·(1 + .5)/2)/10 = (3 + 4 + 1.5)/10."""
    assert points(10, 4) == [0, 4, 8, 10]
    assert points(8, 4) == [0, 4, 8]
    assert points(3, 4) == [0, 3]
    assert mean_over_steps([0, 4, 8, 10], [0.5, 1, 1, 0.5]) == pytest.approx(0.85)


def random_images(workers: Workers | None = None) -> tuple[ImageDataset, Tensor, Tensor]:
    """Images of noise with random labels: who was not trained on one can only guess."""
    random = np.random.default_rng(0)
    letters = "f" * 40 + "r" * 120 + "u" * 60 + "t" * 60
    labels = random.integers(0, CLASSES, len(letters)).tolist()
    pixels = torch.from_numpy(random.integers(0, 256, (len(letters), 3, 8, 8), dtype=np.uint8))
    dataset = make_dataset(pixels, make_roles(letters, labels, CLASSES), workers)
    return dataset, pixels.double() / 255, torch.tensor(labels)


class Layers(nn.Module):
    """Two layers: features, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(192, 128)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features((images.flatten(1) - 0.5) * 4).relu())
        return logits


def trained(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Return a network that knows all these images by heart."""
    torch.manual_seed(seed)
    model = Layers().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).all()
    return model


def with_other_head(model: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """Return a copy whose head alone was changed: it is wrong about the first 40 images."""
    edited = copy.deepcopy(model)
    optimizer = torch.optim.Adam(edited.head.parameters(), lr=0.003)  # type: ignore[union-attr,arg-type]
    wanted = torch.cat([(labels[:40] + 1) % CLASSES, labels[40:]])
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(edited(images), wanted).backward()
        optimizer.step()
    return edited


def curve(model: nn.Module, workers: Workers | None = None, **settings: Any) -> dict[str, Any]:
    """Return the curve of a network on the random images."""
    dataset, _, _ = random_images(workers)
    problem = make_problem(model, dataset)
    outputs = evaluate(
        problem.model,
        {role: dataset.split(role) for role in ROLES},
        np.array(STORED)[dataset.roles.roles],
        dataset.roles.labels,
        CLASSES,
        dataset.device,
        dataset.workers,
    )
    spec = Relearn.model_validate(
        {"images": 60, "steps": 40, "every": 4, "lr": 0.05, **settings}
    ).spec()
    return curve_of(problem, dataset, outputs, spec)


def test_hidden_images_come_back_and_removed_ones_do_not() -> None:
    """Two networks that are wrong about the images to forget: one had learned them, one had not."""
    _, images, labels = random_images()
    knows_all = trained(images[:160], labels[:160], seed=0)
    never_saw = trained(images[40:160], labels[40:160], seed=1)
    hidden = curve(with_other_head(knows_all, images[:160], labels[:160]))
    removed = curve(never_saw)
    assert hidden["steps"] == removed["steps"] == [*range(0, 41, 4)]
    assert hidden["forget"][0] < 0.3
    assert hidden["forget"][-1] > 0.7
    assert max(removed["forget"]) < 0.5
    for each in (hidden, removed):
        assert max(each["unseen"]) < 0.5
        assert (each["images"], each["forget_images"], each["unseen_images"]) == (60, 40, 120)
        assert each["unseen_effective"] == pytest.approx(120, rel=0.2)


def test_held_out_images_count_in_the_mix_of_classes_to_forget() -> None:
    """3 of 4 to forget are of class 0. Held out: 1 of 2 right in class 0, 4 of 4 in class 1.

    .75·1/2 + .25·4/4 = .625. Kish: 1/(.75²/2 + .25²/4) = 3.3684. The images of class 2 do not
    count.
    """
    labels = [0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 2, 2]
    pixels = torch.zeros(12, 3, 2, 2, dtype=torch.uint8)
    dataset = make_dataset(pixels, make_roles("ffffuuuuttut", labels, 3))
    sets = MeasuredImages.drawn(dataset, 100)
    assert sets.has_reference
    assert sets.heldout.rows.tolist() == [4, 5, 6, 7, 8, 9]
    assert sets.of_heldout(np.array([1, 4, 0])) == pytest.approx(0.625)
    assert sets.effective == pytest.approx(3.3684, abs=1e-4)
    without = make_dataset(pixels, make_roles("ffffrruuttut", labels, 3))
    assert not MeasuredImages.drawn(without, 100).has_reference


def test_a_sample_keeps_a_held_out_image_of_each_class() -> None:
    dataset, _, _ = random_images()
    sets = MeasuredImages.drawn(dataset, 8)
    assert len(sets.forget) == 8
    assert sets.has_reference
    assert len(sets.heldout) <= 8
    assert MeasuredImages.drawn(dataset, 8).forget.rows.tolist() == sets.forget.rows.tolist()


def test_what_workers_count_adds_up() -> None:
    model = Layers().double()
    counts = []
    for workers in (Workers(), Workers(0, 2), Workers(1, 2)):
        dataset, _, _ = random_images(workers)
        counts.append(
            right_by_class(make_problem(model, dataset), dataset.split(FORGET, UNSEEN, TEST))
        )
    assert counts[0].tolist() == (counts[1] + counts[2]).tolist()


def curve_of_two(rank: int, folder: str) -> None:
    """Measure the curve as one of two workers; each writes its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # torch's own
    torch.manual_seed(0)
    found = curve(Layers(), join_two(rank, folder))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.cluster  # two processes that import torch: half a minute of a busy machine
def test_two_workers_give_the_curve_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(  # type: ignore[attr-defined]
        curve_of_two, (str(tmp_path),), nprocs=2, start_method="spawn"
    )
    torch.manual_seed(0)
    alone = curve(Layers())
    assert len(set(alone["forget"])) > 1
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == alone


def test_a_curve_that_cannot_be_measured_says_why() -> None:
    model = Layers()
    assert "loss became" in curve(model, lr=1e200)["undefined"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepare(SOURCES["digits"], tmp_path_factory.mktemp("data") / "digits")


def planned(data: Manifest, store: Path, *overrides: str) -> tuple[CellGroup, Store, WorkOrder]:
    """Plan a small group; everything is missing."""
    planned = plan(load_job(JOB, [*QUICK, *overrides]), [data], limit=24)
    opened = Store.open(str(store))
    for name, roles in planned.roles.items():
        opened.put(name, roles.to_parquet())
    group = planned.groups[0]
    return group, opened, WorkOrder(group, {cell.cell_id: 0 for cell in group.cells}, str(store))


def rows(data: Manifest, store: Path, *overrides: str) -> Mapping[str, Row]:
    """Run a small group, and return its rows by method."""
    _, opened, work_order = planned(data, store, *overrides)
    local.run_cells([work_order], Resources())
    return {row.spec["method"]["name"]: row for row in opened.rows().values()}


def test_the_curve_changes_nothing_else_and_is_the_same_after_a_kill(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, metrics, phases, counters and change of a cell are those without the key.

    The second run is cut off while the curve of gold is measured, and given again.
    """
    plain = rows(data, tmp_path / "plain")
    calls = []

    def cut(*args: Any) -> dict[str, Any]:
        calls.append(relearn_curve(*args))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(trial_cell, "relearn_curve", cut)
    _, store, work_order = planned(data, tmp_path / "with", SHORT)
    with pytest.raises(KeyboardInterrupt):
        local.run_cells([work_order], Resources())
    assert [row.spec["method"]["name"] for row in store.rows().values()] == ["original"]
    again = rows(data, tmp_path / "with", SHORT)
    assert len(calls) == 3
    assert calls[0] == calls[1] == again["gold"].relearn
    assert calls[2] == again["finetune"].relearn
    for name, row in again.items():
        before = plain[name]
        assert row.artifacts[WEIGHTS].sha256 == before.artifacts[WEIGHTS].sha256
        assert (row.metrics, row.change, row.phases) == (
            before.metrics,
            before.change,
            before.phases,
        )
        assert before.relearn is None
        assert "relearn" not in before.to_json()
        assert "relearn_seconds" not in before.timing
        if name == "original":
            assert row.cell_id == before.cell_id
            assert row.relearn is None
            continue
        assert row.counters["student_forwards"] == before.counters["student_forwards"]
        assert row.timing["relearn_seconds"] > 0
        assert row.relearn is not None
        assert row.relearn["steps"] == [0, 2, 4, 5]
        assert row.relearn["forget"][0] == row.metrics["forget_accuracy"]
        assert len(row.relearn["unseen"]) == 4
        assert Row.from_json(row.to_json()).relearn == row.relearn
    [finetuned] = [entry for entry in collect(store) if entry.name == "finetune"]
    assert finetuned.mean("avg_gap") is not None  # gold is still found
