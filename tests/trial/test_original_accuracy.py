"""An original that is not as accurate as it is known to be fails, and all that starts from it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.grid import local
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.datasets import locate_data
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from lotus_ray.trial.original import check_accuracy
from tests.standins import picture
from tests.toy import Sample, source

JOB = """\
store: unused
epochs: 1
grid:
  methods: [original, finetune]
  datasets:
    - {name: Toy, manifest: unused, forget: {fraction: 0.2}, img_size: 8}
  models:
    - name: resnet18_cifar
      options: {width: 4}
      train: {epochs: 6, lr: 0.05, batch_size: 16}
  seeds: [13]
"""
CLASSES = ("a", "b", "c")


def prepare_toy(folder: Path, shift: int) -> Path:
    """Prepare 96 images of three colours, each labelled so many classes too high."""
    samples = []
    for number in range(96):
        buffer = io.BytesIO()
        Image.fromarray(picture(number % 3, number, (8, 8))).save(buffer, format="PNG")
        split, label = TRAIN if number < 60 else HELDOUT, (number + shift) % 3
        samples.append(Sample(f"s{number:02d}", split, buffer.getvalue(), "", label))
    prepare(source(samples, CLASSES), folder)
    return folder


def run(folder: Path, manifest: Path, *overrides: str, limit: int | None = None) -> dict[str, Any]:
    """Run the job in this process. Returns the row of each method."""
    folder.mkdir()
    (folder / "job.yaml").write_text(JOB)
    loaded = load_job(folder / "job.yaml", [f"dataset.manifest={manifest}", *overrides])
    planned = plan(loaded, locate_data(loaded, folder), limit)
    store = Store.open(str(folder))
    for name, roles in planned.roles.items():
        store.put(name, roles.to_parquet())
    (group,) = planned.groups
    local.run_cells(
        [WorkOrder(group, {c.cell_id: 0 for c in group.cells}, str(folder))], Resources()
    )
    return {row.method: row for row in store.rows().values()}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_toy(tmp_path_factory.mktemp("toy") / "data", shift=0)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_toy(tmp_path_factory.mktemp("shifted") / "data", shift=1)


@pytest.fixture(scope="module")
def given(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings that start from a network that knows the classes, which is checked."""
    folder = tmp_path_factory.mktemp("trained")
    rows = run(folder / "store", toy, "model.expected_accuracy=0.98")
    assert {row.status for row in rows.values()} == {"ok"}
    weights = folder / "w.safetensors"
    weights.write_bytes(Store.open(str(folder / "store")).artifact(rows["Original"], WEIGHTS))
    return ["model.train={}", f"model.initial_checkpoint={weights}", "model.expected_accuracy=0.98"]


def test_an_original_as_good_as_expected_is_unlearned(
    toy: Path, given: list[str], tmp_path: Path
) -> None:
    rows = run(tmp_path / "store", toy, *given)
    assert {method: row.status for method, row in rows.items()} == {
        "Original": "ok",
        "Finetuning": "ok",
    }


def test_labels_shifted_by_one_fail_every_cell(
    shifted: Path, given: list[str], tmp_path: Path
) -> None:
    """It names a + 1 as a, so that it is right about no image at all."""
    rows = run(tmp_path / "store", shifted, *given)
    original, finetuned = rows["Original"], rows["Finetuning"]
    assert (original.status, finetuned.status) == ("failed", "failed")
    assert original.error.type == "OriginalAccuracyError"
    message = original.error.message
    assert "0.0000" in message
    assert "0.9800" in message
    assert "another order or shifted" in message
    assert "prepared" in message
    assert "its original was not trained" in finetuned.error.message


def test_without_an_expectation_and_in_smoke_rows_nothing_is_checked(
    shifted: Path, given: list[str], tmp_path: Path
) -> None:
    unchecked = run(tmp_path / "a", shifted, *given, "model.expected_accuracy=null")
    smoke = run(tmp_path / "b", shifted, *given, limit=4)
    for rows in (unchecked, smoke):
        assert {row.status for row in rows.values()} == {"ok"}


@pytest.fixture(scope="module")
def group(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> CellGroup:
    folder = tmp_path_factory.mktemp("lane")
    (folder / "job.yaml").write_text(JOB)
    loaded = load_job(folder / "job.yaml", [f"dataset.manifest={toy}"])
    return plan(loaded, locate_data(loaded, folder)).groups[0]


@pytest.mark.parametrize(
    ("expected", "tolerance", "passes"),
    [
        (0.8, 0.03, True),
        (0.82, 0.03, True),
        (0.78, 0.03, True),
        (0.84, 0.03, False),
        (0.76, 0.03, False),
        (0.84, 0.05, True),
        (None, 0.03, True),
    ],
)
def test_the_accuracy_is_that_of_unseen_and_test_set_together(
    group: CellGroup, expected: float | None, tolerance: float, passes: bool
) -> None:
    """Right about 5 of 6 unseen and 3 of 4 test images: 8/10; what it trained on plays no part."""
    roles = np.array(["forget"] * 5 + ["unseen"] * 6 + ["test"] * 4 + ["rest"] * 5)
    labels = np.ones(20, dtype=np.int64)
    predicted = np.array([0] * 5 + [1, 1, 1, 1, 1, 0] + [1, 1, 1, 0] + [0] * 5)
    none = np.zeros(20)
    outputs = Outputs(roles, labels, predicted, none, none, none, none, none, {})
    group = replace(group, expected_accuracy=expected, accuracy_tolerance=tolerance)
    if passes:
        check_accuracy(group, outputs)
    else:
        with pytest.raises(DataError, match=r"0\.8000 .* 0\.[78][64]00 ± 0\.03"):
            check_accuracy(group, outputs)
