"""The jobs of the paper: all of them are valid, and each data set's runs on a stand-in of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
from click.testing import CliRunner, Result

from lotus_ray.base.roles import FORGET
from lotus_ray.cli.main import main
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import SOURCES
from lotus_ray.job.extends import read_document
from lotus_ray.job.load import load_job
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from tests import standins

JOBS = Path(__file__).parents[2] / "jobs"
# What jobs extend, what they run on, and jobs that the paper does not have.
NO_JOBS = (JOBS / "shared", JOBS / "clusters", JOBS / "real")
REAL = {"cifar10": 33, "imagenet-null": 10, "tiny-imagenet": 11}  # cells
FILES = sorted(path for path in JOBS.rglob("*.yaml") if path.parent not in NO_JOBS)
NAMES = [path.relative_to(JOBS).with_suffix("").as_posix() for path in FILES]
DATA = ("cifar10", "cifar100", "tiny-imagenet", "mufac")

# Images a class of each stand-in: training, held out.
COUNTS = {
    "cifar10": (20, 4),
    "cifar100": (5, 2),
    "tiny_imagenet": (4, 2),
    "mufac": (200, 4),  # the first 1,500 are its forget set
    "imagenet": (6, 2),
}
ONE_OF_EACH = {
    "cifar10-resnet18": "CIFAR-10, ResNet18, instance_10pct_smoke24",
    "cifar10-vit-50pct": "CIFAR-10, ViT, instance_50pct_smoke24",
    "cifar100-resnet18-class": "CIFAR-100, ResNet18, class_rocket",
    "tiny-imagenet-resnet18": "TinyImageNet, ResNet18, instance_10pct_smoke24",
    "tiny-imagenet-resnet18-class": "TinyImageNet, ResNet18, class_pizza_smoke24",
    "mufac-vit": "MUFAC, ViT, instance_mufac_fixed16pct_smoke24",
    "imagenet": "ImageNet-1K, ViT-B/16, instance_5perclass_retain45_smoke24",
    "ablations/calibration-cifar10-resnet18": (
        "CIFAR-10, ResNet18, instance_10pct_calibrated-synthetic-cifar10_smoke24"
    ),
}
QUICK = ("cifar10-resnet18", "tiny-imagenet-resnet18-class", "imagenet")  # the others: -m models
WITH_ALL_ROWS = ("cifar10-resnet18",)  # the others leave out shared/more-methods.yaml
SMALL = ["--set", "grid.seeds=[3407]", "--set", "resources.gpus_per_worker=0", "--set", "epochs=1"]
# SFRon counts steps and not epochs. AMUN takes 50 steps for each radius. Of so few images the noise
# that certifies leaves nothing.
SMALL += [
    *("--set", "defaults.methods.sfron={steps: 2, lr: 0.001}"),
    *("--set", "defaults.methods.jit={copies: 2}"),
    *("--set", "defaults.methods.amun={attack_steps: 1, radius: 100.0}"),
    *("--set", "defaults.methods.certified_noise={renyi: 1.0e+9}"),
]
SMALL_RESNET = [
    *("--set", "grid.models.0.options={width: 4}"),
    *("--set", "grid.models.0.train={lr: 0.1, epochs: 2, warmup_epochs: 1, patience: 1}"),
]
SMALL_VIT = [
    *("--set", "grid.models.0.name=test_vit", "--set", "grid.models.0.pretrained=false"),
    *("--set", "grid.models.0.options={img_size: 224, patch_size: 32}"),
    *("--set", "grid.models.0.train={lr: 0.01, epochs: 1, decay: none}"),
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def job(name: str) -> Path:
    return JOBS / f"{name}.yaml"


@pytest.fixture(scope="module")
def data(no_page: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which stand-ins are prepared where the jobs look for them, as they are needed."""
    return tmp_path_factory.mktemp("paper")


def prepare_for(job_name: str, base: Path) -> None:
    """Prepare the data sets that a job names, but for those that are there."""
    document = json.dumps(read_document(job(job_name)).values)
    for name, (train, heldout) in COUNTS.items():
        folder = name.replace("_", "-")
        destination = base / "data" / folder
        if f'"data/{folder}"' in document and not destination.exists():
            standins.STANDINS[name](base / "raw" / name, train, heldout)
            prepare(SOURCES[name], destination, base / "raw" / name)
    destination = base / "data" / "synthetic-cifar10"
    if '"data/synthetic-cifar10"' in document and not destination.exists():
        standins.synthetic(base / "raw" / "synthetic", 3)
        prepare(SOURCES["image_folder"], destination, base / "raw" / "synthetic", heldout=0)


def test_every_benchmark_of_the_paper_has_a_job() -> None:
    wanted = {f"{d}-{m}" for d in DATA for m in ("resnet18", "vit")}
    wanted |= {f"{d}-{m}-50pct" for d in ("cifar10", "cifar100") for m in ("resnet18", "vit")}
    wanted |= {f"{d}-resnet18-class" for d in ("cifar10", "cifar100", "tiny-imagenet")}
    wanted |= {f"ablations/softmax-{d}-{m}" for d in DATA for m in ("resnet18", "vit")}
    wanted |= {f"ablations/alpha-{d}-resnet18" for d in ("cifar10", "cifar100", "mufac")}
    wanted |= {f"ablations/retain-{d}-resnet18" for d in ("cifar10", "cifar100", "mufac")}
    wanted |= {"ablations/calibration-cifar10-resnet18", "imagenet", "digits"}
    assert wanted <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_job_opens_with_its_command(name: str) -> None:
    first = job(name).read_text().splitlines()[0]
    assert re.fullmatch(rf"# (ray job submit -- )?lotus-ray grid jobs/{name}\.yaml", first)


@pytest.mark.parametrize("name", NAMES)
def test_every_job_is_valid_and_lists_its_cells(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_job(job(name))
    grid = loaded.job.grid
    groups = len(grid.datasets) * len(grid.seeds)
    cells = sum(len(methods) for methods in loaded.methods) * groups
    valid = run("validate", job(name))
    assert valid.exit_code == 0
    assert valid.stdout.splitlines()[0] == f"{job(name)}: valid, {cells} cells"
    dry = run("grid", job(name), "--dry-run")
    assert dry.exit_code == 0
    assert dry.stdout.splitlines()[cells].startswith(f"{cells} cells, ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "cells"), REAL.items())
def test_jobs_on_real_pictures_say_which_file_is_missing(
    name: str, cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read Parquet files where they lie: nothing else can be checked without these."""
    monkeypatch.chdir(tmp_path)
    loaded = load_job(job(f"real/{name}"))
    assert sum(map(len, loaded.methods)) * len(loaded.job.grid.seeds) == cells
    opening = job(f"real/{name}").read_text().splitlines()[0]
    assert opening == f"# lotus-ray grid jobs/real/{name}.yaml"
    valid = run("validate", job(f"real/{name}"))
    assert valid.exit_code == 3
    assert "where: data/real/" in valid.stderr
    assert {path.stem for path in (JOBS / "real").iterdir()} == REAL.keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10-resnet18", {"alpha": 8, "lr": 1e-4, "epochs": 10}),
        ("cifar10-resnet18-50pct", {"alpha": 8, "lr": 1e-4}),
        ("cifar100-resnet18", {"alpha": 2, "lr": 1e-4}),
        ("cifar10-vit", {"alpha": 2, "lr": 1e-6, "epochs": 3}),
        ("cifar10-resnet18-class", {"alpha": 32, "class_unlearning": True}),
        ("imagenet", {"alpha": 2, "lr": 1e-6, "epochs": 3}),
    ],
)
def test_lotus_has_the_settings_of_the_paper(name: str, expected: dict[str, float]) -> None:
    (lotus,) = [method for method in load_job(job(name)).methods[0] if method.name == "lotus"]
    assert {key: getattr(lotus, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "batch_size", "recipe"),
    [
        ("mufac-resnet18", 128, {"epochs": 150, "warmup_epochs": 30, "patience": 50, "lr": 0.1}),
        ("cifar10-resnet18", 128, {"crop_padding": 4, "flip": False}),
        ("tiny-imagenet-vit", 32, {"epochs": 30, "patience": 10, "lr": 1e-4, "decay": "none"}),
        ("imagenet", 256, {"epochs": 0}),
    ],
)
def test_originals_have_the_recipes_of_the_paper(
    name: str, batch_size: int, recipe: dict[str, object]
) -> None:
    loaded = load_job(job(name))
    original = loaded.methods[0][0]
    assert loaded.job.batch_size == batch_size
    assert {key: getattr(original, key) for key in recipe} == recipe


@pytest.mark.parametrize(
    ("name", "size", "of_the_others"),
    [
        ("cifar10-resnet18", 128, 128),
        ("cifar100-resnet18-class", 128, 128),
        ("mufac-resnet18", 64, 128),
        ("cifar10-vit-50pct", 16, 32),
        ("tiny-imagenet-vit", 16, 32),
        ("mufac-vit", 16, 32),
        ("imagenet", 64, 256),
    ],
)
def test_unsir_has_the_batch_sizes_of_the_paper(name: str, size: int, of_the_others: int) -> None:
    """Those of the authors' scripts: its noise takes much memory."""
    entries = load_job(job(name)).entries[0]
    found = {entry.method.name: entry.batch_size for entry in entries}
    assert found.pop("unsir") == size
    assert set(found.values()) == {of_the_others}


def test_imagenet_expects_what_torchvision_says_of_its_weights() -> None:
    import torchvision

    (model,) = load_job(job("imagenet")).job.grid.models
    weights = torchvision.models.get_model_weights("vit_b_16")[model.pretrained]
    documented = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
    assert model.expected_accuracy == pytest.approx(documented, abs=1e-4)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.models) for name in ONE_OF_EACH],
)
def test_a_job_runs_on_a_stand_in(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the published files to a table with the paper's rows; of one job, with every row."""
    prepare_for(name, data)
    monkeypatch.chdir(data)
    small = SMALL_VIT if "vit" in name or name == "imagenet" else SMALL_RESNET
    own = json.dumps(read_document(job(name)).values["grid"]["methods"])
    rows_of = [] if name in WITH_ALL_ROWS else ["--set", f"grid.methods={own}"]
    arguments = ["grid", job(name), "--local", "--limit", 24, *rows_of, *SMALL, *small]
    result = run(*arguments, "--store", tmp_path / "store")
    assert result.exit_code == 0, result.stderr
    assert ONE_OF_EACH[name] in result.stdout
    rows = Store.open(str(tmp_path / "store")).rows().values()
    loaded = load_job(job(name), rows_of[1:])
    expected = {method.label for method in loaded.methods[0]}
    assert {row.method for row in rows} == expected
    assert all(row.status == "ok" for row in rows)
    assert len(rows) == len(loaded.methods[0]) * len(loaded.job.grid.datasets)
    digests = {row.method: row.artifacts[WEIGHTS].sha256 for row in rows}
    assert digests["Original"] != digests.get("Finetuning", digests.get("Gold Std"))
    for table in (tmp_path / "store" / "roles").iterdir():
        roles = Roles.from_parquet(table.read_bytes())
        assert roles.num_classes == loaded.job.grid.datasets[0].num_classes
        forgotten = set(roles.labels[roles.indices(FORGET)].tolist())
        assert len(forgotten) == 1 if "class" in name else len(forgotten) > 3


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "-vit" in name and "digits" not in name]
)
def test_the_papers_vit_is_fine_tuned_on_imagenet_1k(name: str) -> None:
    """The published code loads google/vit-base-patch16-224, whose head has 1,000 classes."""
    (model,) = load_job(JOBS / f"{name}.yaml").job.grid.models
    assert model.pretrained is True
    assert timm.get_pretrained_cfg(model.name).tag == "orig_in21k_ft_in1k"
    assert timm.get_pretrained_cfg(model.name).num_classes == 1000


def test_the_papers_resnet18_is_that_of_its_code() -> None:
    """Every job of the paper takes it and says so; the digits keep the usual network."""
    resnets = [name for name in NAMES if "-resnet18" in name]
    assert len(resnets) >= 8
    for name in resnets:
        (model,) = load_job(JOBS / f"{name}.yaml").job.grid.models
        assert model.name == "resnet18_lotus"
        assert model.name in (JOBS / f"{name}.yaml").read_text()
    assert load_job(JOBS / "digits.yaml").job.grid.models[0].name == "resnet18_cifar"
