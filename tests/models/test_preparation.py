"""How images are prepared where a job does not say: as the model's own weights want it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torchvision

from lotus_ray.job.datasets import locate_data
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.models.preparation import Preparation, own_preparation
from lotus_ray.models.resnet_cifar import resnet18_cifar

JOB = """store: runs
epochs: 1
grid:
  methods: [finetune]
  datasets:
    - {{name: digits, source: digits, forget: {{fraction: 0.1}}, img_size: 32{dataset}}}
  models:
    - {{name: {model}}}
  seeds: [1]
"""


def test_timm_and_torchvision_say_it_themselves() -> None:
    half, imagenet = (0.5, 0.5, 0.5), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert own_preparation("tf_efficientnet_lite0") == Preparation(0.875, "bicubic", half, half)
    assert own_preparation("torchvision/resnet18") == Preparation(0.875, "bilinear", *imagenet)
    assert own_preparation("vit_base_patch16_224.augreg_in21k") == Preparation(
        0.9, "bicubic", half, half
    )
    assert own_preparation("resnet18_cifar") is None


def test_every_torchvision_classifier_is_resized_as_torchvision_does() -> None:
    names = torchvision.models.list_models(torchvision.models)
    for name in names:
        for weights in torchvision.models.get_model_weights(name):
            own = own_preparation(f"torchvision/{name}", weights.name)
            wanted = weights.transforms()
            assert own is not None
            assert int(wanted.crop_size[0] / own.crop_pct) == wanted.resize_size[0], weights
            assert own.interpolation == wanted.interpolation.value


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    state = resnet18_cifar(num_classes=10, width=64).state_dict()
    torch.save(state, "cifar.pth")
    torch.save({}, "timm.pth")
    return tmp_path / "job.yaml"


CIFAR = "resnet18_cifar, initial_checkpoint: cifar.pth"
TIMM = "test_vit, initial_checkpoint: timm.pth"


def written(job: Path, model: str, dataset: str = "") -> Path:
    job.write_text(JOB.format(model=model, dataset=dataset))
    return job


def test_values_of_the_job_win_and_others_come_from_the_model_with_a_note(job: Path) -> None:
    loaded = load_job(written(job, TIMM, ", mean: [0, 0, 0]"))
    own = own_preparation("test_vit")
    assert own is not None
    (dataset,), (model,) = loaded.job.grid.datasets, loaded.job.grid.models
    transform = dataset.transform_for(model.preparation)
    assert (transform.mean, transform.std) == ((0, 0, 0), own.std)
    assert (transform.crop_pct, transform.interpolation) == (own.crop_pct, own.interpolation)
    assert transform.crop_pct < 1
    (note,) = [note for note in loaded.notes if "own values hold" in note]
    assert f"crop_pct {own.crop_pct:.4g}" in note
    assert "mean" not in note


def test_a_checkpoint_whose_model_does_not_say_is_told(job: Path) -> None:
    loaded = load_job(written(job, CIFAR))
    assert "neither the job nor resnet18_cifar says how" in loaded.notes[0]
    said = ", crop_pct: 1, interpolation: bicubic, mean: [0, 0, 0], std: [1, 1, 1]"
    asked = load_job(written(job, CIFAR, said)).notes
    assert len(asked) == 1
    assert "give expected_accuracy" in asked[0]
    assert load_job(written(job, CIFAR + ", expected_accuracy: 0.9", said)).notes == ()


@pytest.mark.parametrize(
    ("name", "crop"),
    [("coat_lite_medium_384", "squash"), ("deepseek_vit_412m", "border"), ("test_vit", "")],
)
def test_a_crop_of_timm_that_is_not_done_here_is_told(name: str, crop: str, job: Path) -> None:
    model = f"{name}, initial_checkpoint: timm.pth"
    told = [note for note in load_job(written(job, model)).notes if "of timm" in note]
    assert len(told) == bool(crop)
    assert all(f"'{crop}'" in note for note in told)
    assert not any(
        " of timm" in note for note in load_job(written(job, model, ", crop_pct: 1")).notes
    )


def test_without_weights_nothing_changes_and_nothing_is_told(job: Path) -> None:
    for name in ("test_vit", "resnet18_cifar"):
        loaded = load_job(written(job, f"{name}, train: {{epochs: 1}}"))
        (dataset,), (model,) = loaded.job.grid.datasets, loaded.job.grid.models
        assert model.preparation is None
        transform = dataset.transform_for(None)
        assert transform.spec()["mean"] == transform.spec()["std"] == [0.5] * 3
        assert (transform.crop_pct, transform.interpolation) == (1.0, "bicubic")
        assert loaded.notes == ()


def test_what_comes_from_the_model_is_part_of_the_identity(job: Path) -> None:
    """A cell whose job says the model's own values is the same cell; other values are another."""
    said = ", crop_pct: {}, interpolation: bicubic, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]"
    own = own_preparation("test_vit")
    assert own is not None
    ids = []
    for dataset in ("", said.format(own.crop_pct), said.format(0.8)):
        loaded = load_job(written(job, TIMM + ", options: {img_size: 32}", dataset))
        with TemporaryDirectory() as folder:
            planned = plan(loaded, locate_data(loaded, Path(folder)))
        ids.append(planned.cells[0].cell_id)
    assert ids[0] == ids[1] != ids[2]
