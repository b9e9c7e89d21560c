"""Which package may import which: checked in a fresh process, module by module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lotus_ray.unlearning.methods import METHODS

PACKAGE = Path(__file__).parent.parent / "lotus_ray"
# Packages that must not be loaded once these modules are imported.
BORDERS = {
    "lotus_ray.store.results": ("ray", "torch", "obstore"),
    "lotus_ray.store.objects.cloud": ("ray", "torch"),
    "lotus_ray.data.prepared.embedded": ("ray", "torch", "obstore"),
    "lotus_ray.grid.status": ("ray", "torch", "pydantic"),
    "lotus_ray.cli.doctor.examine": ("ray", "torch", "pydantic"),
    "lotus_ray.report.collect": ("ray", "torch"),
    "lotus_ray.report.formats": ("ray", "torch"),
    "lotus_ray.report.figures": ("ray", "torch", "matplotlib.pyplot"),
    "lotus_ray.report.figures.files": ("ray", "torch", "matplotlib.pyplot"),
    "lotus_ray.report.page": ("ray", "torch", "matplotlib.pyplot"),
    "lotus_ray.report.against": ("ray", "torch"),
    "lotus_ray.report.published": ("ray", "torch"),
    "lotus_ray.report.recompute": ("ray", "torch"),
    "lotus_ray.metrics.summary": ("ray", "torch"),
    "lotus_ray.report.export": ("ray", "torch", "mlflow", "tensorboardX"),
    "lotus_ray.unlearning.problem": ("ray", "pydantic"),
    "lotus_ray.unlearning.engine": ("ray", "pydantic"),
    "lotus_ray.unlearning.losses": ("ray", "pydantic"),
    "lotus_ray.unlearning.methods": ("ray", "pydantic"),
    "lotus_ray.metrics.evaluation": ("ray", "pydantic"),
    "lotus_ray.models": ("ray", "pydantic"),
    "lotus_ray.unlearning.checkpoint": ("ray", "pydantic"),
    "lotus_ray.data.batches.dataset": ("ray", "pydantic"),
    "lotus_ray.bench.unlearning": ("ray", "pydantic"),
    "lotus_ray.bench.mask": ("ray", "pydantic"),
    "lotus_ray.bench.gpu": ("ray", "pydantic"),
    "lotus_ray.grid.run": ("ray", "rich"),
    "lotus_ray.grid.local": ("ray",),
    "lotus_ray.cli.main": ("ray", "rich", "torch"),
}


# What a machine with torch alone may lack, and what runs there all the same.
ABSENT = ("ray", "pydantic", "simplejpeg", "tensorboardX")
BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
"""
TINY_RUN = """
import torch
from lotus_ray.unlearning import checkpoint as checkpoints
from lotus_ray.unlearning import engine
from lotus_ray.unlearning import losses
from lotus_ray.unlearning import problem
from lotus_ray.base import seeds
from lotus_ray.bench import gpu, mask, step_loop
from lotus_ray.bench.generated import Sizes, build
from lotus_ray.bench.unlearning import evaluated
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.metrics.summary import summarise
sizes = Sizes("resnet18_cifar", {"width": 2}, 8, 3, 4, 8, 4, 4, 8)
stage = build(sizes, torch.device("cpu")).compute_logits()
with ForwardCounter().counting() as forwards:
    records = engine.unlearn(METHODS["lotus"](epochs=1, class_unlearning=True),
                             stage.problem(forwards))
outputs = evaluated(stage)
print(len(records), summarise(outputs, outputs).values["rf_jsd"])
"""


def loaded(module: str, forbidden: tuple[str, ...]) -> list[str]:
    """Import a module in a fresh process; return which forbidden packages came with it."""
    code = f"import sys, {module}; print(*[n for n in {forbidden!r} if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.split()


@pytest.mark.parametrize(("module", "forbidden"), BORDERS.items())
def test_module_does_not_load_what_it_must_not(module: str, forbidden: tuple[str, ...]) -> None:
    assert loaded(module, forbidden) == []


def test_a_bucket_loads_its_package_and_a_folder_does_not() -> None:
    """obstore is an extra: only who opens a store in a bucket needs it."""
    code = "import sys; from lotus_ray.store.results import Store; Store.open(sys.argv[1]); "
    for uri, count in (("runs", 0), ("s3://bucket/runs", 1)):
        shown = subprocess.run(
            [sys.executable, "-c", code + "print(int('obstore' in sys.modules))", uri],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert int(shown.stdout) == count


def test_the_checkpoint_test_can_fail() -> None:
    """The cluster package does load Ray, and the engine does load torch."""
    assert loaded("lotus_ray.cluster.session", ("ray", "torch"))[0] == "ray"
    assert loaded("lotus_ray.unlearning.engine", ("torch",)) == ["torch"]


def run_blocked(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where the packages of ABSENT cannot be imported, and warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", BLOCKED + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_unlearning_and_evaluation_run_where_there_is_torch_alone() -> None:
    """One phase of LoTUS; and a model is not apart from itself, so that its RF-JSD is 0."""
    ended = run_blocked(TINY_RUN)
    assert ended.returncode == 0, ended.stderr
    phases, distance = ended.stdout.split()
    assert phases == "1"
    assert float(distance) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("package", ["ray.train", "pydantic"])
def test_what_is_blocked_cannot_be_imported(package: str) -> None:
    for code in (f"import {package}", "import lotus_ray.cluster.session, lotus_ray.job.load"):
        ended = run_blocked(code)
        assert ended.returncode == 1
        assert "is blocked" in ended.stderr


def test_ray_is_named_in_the_cluster_package_alone() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "cluster"]
    named = [
        path.name
        for path in files
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import ray", "from ray"))
    ]
    assert len(files) > 20
    assert named == []


def test_no_method_imports_another() -> None:
    """Shared pieces that are no methods (from_scratch, gradients) may be imported by all."""
    methods = {method.__module__.rsplit(".", 1)[1] for method in METHODS.values()}
    guilty = [
        (name, other)
        for name in methods
        for other in methods - {name}
        if f"lotus_ray.unlearning.methods.{other} "
        in (PACKAGE / "methods" / f"{name}.py").read_text()
    ]
    assert len(methods) == len(METHODS)
    assert guilty == []
