"""Which room may import which, and which packages a module must not load.

The contracts stand in pyproject.toml; `lint-imports` checks them without importing anything. What
a module loads through other packages shows in a fresh process only.
"""

from __future__ import annotations

import graphlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from lotus_ray.unlearning.methods import METHODS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lotus_ray"
ROOMS = {
    *("audit", "base", "bench", "cli", "cluster", "data", "grid", "job"),
    *("metrics", "models", "report", "store", "trial", "unlearning"),
}
# Lines that break the contracts, and where they are planted.
PLANTED = {
    "store/results.py": "import lotus_ray.grid.status",
    "metrics/summary.py": "def _late():\n    from lotus_ray.trial import run",
    "report/collect.py": "import lotus_ray.job.load\nimport lotus_ray.metrics.evaluation",
    "helpers/__init__.py": "",
    "base/one.py": "import lotus_ray.base.two",
    "base/two.py": "import lotus_ray.base.one",
    "trial/run.py": "import ray.train",
}
# What is said of them.
SAID = {
    "a lower room imports a higher one": "lotus_ray.store.results -> lotus_ray.grid.status",
    "so it does inside a function": "lotus_ray.metrics.summary -> lotus_ray.trial.run",
    "neighbours know each other": "lotus_ray.report.collect -> lotus_ray.job.load",
    "a package that is no room": "- lotus_ray.helpers",
    "two modules of a room import each other": "- .two -> .one",
    "Ray below the cluster": "lotus_ray.trial.run -> ray ",
    "torch in the report": "lotus_ray.report.collect -> lotus_ray.metrics.evaluation",
    "every contract": "0 kept, 4 broken",
}
# Modules, and packages that must not be loaded once they are imported.
NOT_LOADED = [
    (
        (
            "lotus_ray.store.results",
            "lotus_ray.data.prepared.embedded",
            "lotus_ray.grid.status",
            "lotus_ray.cli.doctor.examine",
        ),
        ("ray", "torch", "obstore", "pydantic"),
    ),
    (
        (
            "lotus_ray.audit.evidence",
            "lotus_ray.audit.verify",
            "lotus_ray.store.objects.cloud",
            "lotus_ray.report.collect",
            "lotus_ray.report.formats",
            "lotus_ray.report.figures",
            "lotus_ray.report.figures.files",
            "lotus_ray.report.page",
            "lotus_ray.report.against",
            "lotus_ray.report.published",
            "lotus_ray.report.recompute",
            "lotus_ray.report.export",
            "lotus_ray.metrics.summary",
        ),
        ("ray", "torch", "matplotlib.pyplot", "mlflow", "tensorboardX"),
    ),
    (
        (
            "lotus_ray.unlearning.problem",
            "lotus_ray.unlearning.engine",
            "lotus_ray.unlearning.losses",
            "lotus_ray.unlearning.methods",
            "lotus_ray.unlearning.checkpoint",
            "lotus_ray.metrics.evaluation",
            "lotus_ray.models",
            "lotus_ray.data.batches.dataset",
            "lotus_ray.bench.unlearning",
            "lotus_ray.bench.mask",
            "lotus_ray.bench.gpu",
        ),
        ("ray", "pydantic"),
    ),
    (("lotus_ray.grid.local", "lotus_ray.grid.run"), ("ray", "rich")),
    (("lotus_ray",), ("ray", "torch", "numpy", "pydantic", "pandas")),
    (("lotus_ray.cli.main",), ("ray", "rich", "torch")),
    (("lotus_ray.report.results",), ("ray", "torch", "pandas", "matplotlib", "jinja2")),
]

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


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the package in a folder."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_contracts_are_kept() -> None:
    ended = linted(ROOT)
    assert ended.returncode == 0, ended.stdout
    assert "4 kept, 0 broken" in ended.stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a copy of the package with all lines planted."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, lines in PLANTED.items():
        path = folder / PACKAGE.name / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(f"\n{lines}\n")
    ended = linted(folder)
    assert ended.returncode == 1
    return ended.stdout


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_a_planted_line_breaks_a_contract(said: str, broken: str) -> None:
    assert said in broken


def test_no_circle_joins_modules() -> None:
    """Nor a package and a module in it, which the contract does not look at."""
    graph = grimp.build_graph("lotus_ray", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 100
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError


def test_nothing_but_rooms_stands_at_the_root() -> None:
    names = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert names == ROOMS | {"__init__.py", "__main__.py", "py.typed"}


def loaded(*modules: str, of: tuple[str, ...]) -> dict[str, list[str]]:
    """Import modules in a fresh process, in order; return which packages each was first to load."""
    code = f"""
import importlib, json, sys
seen, found = set(), {{}}
for module in {modules!r}:
    importlib.import_module(module)
    now = {{name for name in {of!r} if name in sys.modules}}
    found[module] = sorted(now - seen)
    seen |= now
print(json.dumps(found))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(result.stdout)


@pytest.mark.parametrize(("modules", "forbidden"), NOT_LOADED)
def test_modules_do_not_load_what_they_must_not(
    modules: tuple[str, ...], forbidden: tuple[str, ...]
) -> None:
    """One process for all that must not load the same: the first to load it is named."""
    assert loaded(*modules, of=forbidden) == {module: [] for module in modules}


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


def test_that_can_fail() -> None:
    """The cluster does load Ray, and is named for it."""
    modules = ("lotus_ray.base.errors", "lotus_ray.cluster.session")
    assert loaded(*modules, of=("ray",)) == dict(zip(modules, ([], ["ray"]), strict=True))


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


def test_no_method_imports_another() -> None:
    """Shared pieces that are no methods (from_scratch, gradients) may be imported by all."""
    methods = {method.__module__ for method in METHODS.values()}
    graph = grimp.build_graph("lotus_ray", cache_dir=None)
    guilty = {name: graph.find_modules_directly_imported_by(name) & methods for name in methods}
    assert len(methods) == len(METHODS)
    assert guilty == {name: set() for name in methods}
