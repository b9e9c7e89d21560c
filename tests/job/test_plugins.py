"""Methods, models, sources and metrics of one's own: found, refused, identified, run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.base.plugins import Code, PluginError
from lotus_ray.cli.main import main
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome, Stages
from lotus_ray.grid.planning import plan_grid
from lotus_ray.grid.run import run_grid
from lotus_ray.job.load import LoadedJob, load_job
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.plugins import run_code
from lotus_ray.job.plugins.collect import named
from lotus_ray.job.plugins.read_code import read_code
from lotus_ray.job.plugins.run_code import import_code
from lotus_ray.job.plugins.use import load_from_store, use_plugins
from lotus_ray.metrics.own import TAKEN
from lotus_ray.report.collect import collect
from lotus_ray.report.columns import METRICS
from lotus_ray.report.formats.rows import to_json
from lotus_ray.store.results import Store

METHOD = """
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

import lotus_ray


@dataclass(frozen=True)
class Push(lotus_ray.Method):
    '''Push away from the forget set.'''

    name: ClassVar[str] = "push"
    label: ClassVar[str] = "Push"
    lr: float = 0.01

    def phases(self, problem):
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=self.lr)

        def loss(model, batch):
            return -batch.mean(cross_entropy(model(batch.images), batch.labels, reduction="none"))

        yield lotus_ray.Phase(problem.forget.shuffled(problem.batch_size, "push"), loss, optimizer)
"""
OTHERS = """
import io

import numpy as np
from PIL import Image
from torch import nn

import lotus_ray


@lotus_ray.model
def tiny_net(num_classes, width=4):
    '''One convolution.'''
    network = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return network.extend([nn.Flatten(), nn.Linear(width, num_classes)])


@lotus_ray.metric(heading="Conf f", better="low")
def forget_confidence(outputs, original):
    '''Largest output on the forget set.'''
    return outputs.of(outputs.confidence, "forget").mean()


@lotus_ray.metric()
def never(outputs, original):
    raise lotus_ray.UndefinedMetric("there is none")


def open_stripes(root):
    def read(file, offset, size):
        image = np.zeros((8, 8, 3), dtype=np.uint8)
        image[:, :: 1 + offset % 3] = offset
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        return buffer.getvalue()

    splits = ["train"] * 60 + ["heldout"] * 20
    items = [lotus_ray.Item(f"s{n:02}", split, n % 3, "", n) for n, split in enumerate(splits)]
    return lotus_ray.Images(("a", "b", "c"), lotus_ray.index_of(items), read)


stripes = lotus_ray.Source("stripes", "stripes of three widths", open_stripes)
"""
JOB = """
store: store
import: [own/push.py, own/others.py]
metrics: [forget_confidence, never]
epochs: 1
batch_size: 16
grid:
  methods: [finetune, push]
  datasets: [{name: stripes, source: stripes, forget: {fraction: 0.2}, img_size: 8}]
  models: [{name: tiny_net, options: {width: 3}, train: {epochs: 1, batch_size: 16}}]
  seeds: [1]
"""
DIGITS = JOB.replace("source: stripes", "source: digits").replace(
    "name: tiny_net, options: {width: 3}", "name: resnet18_cifar, options: {width: 4}"
)


@pytest.fixture(autouse=True)
def _no_plugins_are_left() -> Iterator[None]:
    yield
    plugins.set_offers((), ())


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path)


def write_job(folder: Path, text: str = JOB) -> Path:
    """Write a job, and beside it the files that it imports."""
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "push.py").write_text(METHOD)
    (folder / "own" / "others.py").write_text(OTHERS)
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def run(loaded: LoadedJob, store: Path) -> Outcome:
    return run_grid(loaded, Store.open(str(store)), Options(local=True))


def cells(job: Path, store: Path, *overrides: str) -> dict[str, str]:
    """Return the ids of a job's cells by label."""
    loaded = load_job(job, overrides)
    planned, _, _ = plan_grid(loaded, Store.open(str(store)), Options(), Stages())
    return {cell.label: cell.cell_id for cell in planned.cells}


def test_plugins_of_every_kind_run_and_a_changed_file_is_a_new_cell(
    job: Path, tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "store"))
    outcome = run(load_job(job), tmp_path / "store")
    rows = {row.method: row for row in outcome.rows.values()}
    assert set(rows) == {"Original", "Finetuning", "Push"}
    assert all(row.is_ok for row in rows.values()), rows
    assert 0 < rows["Push"].metrics["forget_confidence"] < 1
    assert rows["Push"].undefined["never"] == "there is none"
    assert "code" not in rows["Finetuning"].spec["method"]
    entries = {entry.method: entry for entry in collect(store)}
    assert entries["Push"].mean("forget_confidence") == rows["Push"].metrics["forget_confidence"]
    assert '"metric": "forget_confidence"' in to_json([*entries.values()])
    again = {e.method: e.mean("forget_confidence") for e in collect(store, recompute=True)}
    assert again["Push"] == rows["Push"].metrics["forget_confidence"]

    changed = tmp_path / "own" / "push.py"
    changed.write_text(METHOD.replace("-batch", "-2 * batch"))
    outcome = run(load_job(job), tmp_path / "store")
    new = {row.method: row for row in outcome.rows.values()}
    assert new["Push"].cell_id != rows["Push"].cell_id
    assert new["Push"].metrics != rows["Push"].metrics
    assert new["Finetuning"] == rows["Finetuning"]
    labels = [entry.method for entry in collect(store) if entry.label == "Push"]
    assert len(labels) == 2
    assert all(label.startswith("Push(code=") for label in labels)


def test_built_in_cells_keep_their_ids(tmp_path: Path) -> None:
    """A method that is imported beside them is no part of them; a metric is one of all."""
    job = write_job(tmp_path, DIGITS.replace("metrics: [forget_confidence, never]", ""))
    with_it = cells(job, tmp_path / "store")
    without = cells(job, tmp_path / "store", "import=[]", "grid.methods=[finetune]")
    assert {label: with_it[label] for label in without} == without
    measured = cells(job, tmp_path / "store", "metrics=[forget_confidence]")
    assert not set(measured.values()) & set(with_it.values())


def test_a_worker_imports_the_code_from_the_store(job: Path, tmp_path: Path) -> None:
    """It has neither the file nor what the command has imported."""
    store = Store.open(str(tmp_path / "store"))
    _, orders, _ = plan_grid(load_job(job), store, Options(), Stages())
    description = next(c for c in orders[0].missing_cells if c.label == "Push").spec["method"]
    for file in (tmp_path / "own").iterdir():
        file.unlink()
    forget_all()
    with pytest.raises(PluginError, match="has not imported"):
        build_method(description)
    load_from_store(store, orders[0].plugins)
    assert build_method(description).lr == 0.01  # type: ignore[attr-defined]
    forget_all()
    torn = [replace(each, digest="0" * 64) for each in orders[0].plugins]
    with pytest.raises(PluginError, match="missing"):
        load_from_store(store, torn)
    name = plugins.stored_name(orders[0].plugins[0].digest)
    store.replace(name, b"{}")
    with pytest.raises(PluginError, match="not what it was"):
        load_from_store(store, orders[0].plugins)


def forget_all() -> None:
    """Make this process one that has imported no plug-in."""
    plugins.set_offers((), ())
    plugins._loaded.clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a package with an entry point into a folder of the path."""
    site = tmp_path / "site"
    (site / "my_forget").mkdir(parents=True)
    (site / "my_forget" / "__init__.py").write_text("")
    (site / "my_forget" / "labels.py").write_text('LABEL = "Pull"\n')
    module = METHOD.replace('"push"', '"pull"').replace('= "Push"', "= LABEL")
    (site / "my_forget" / "pull.py").write_text(f"from my_forget.labels import LABEL\n{module}")
    info = site / "my_forget-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-forget\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[lotus_ray.methods]\npull = my_forget.pull:Push\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in [name for name in sys.modules if name.startswith("my_forget")]:
        del sys.modules[name]
    run_code._digests.pop("my_forget", None)
    for name in [name for name in run_code._finder.modules if name.startswith("my_forget")]:
        del run_code._finder.modules[name]


def test_a_method_of_an_installed_package_reaches_workers_that_lack_it(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = write_job(tmp_path), Store.open(str(tmp_path / "store"))
    loaded = load_job(job, ["grid.methods=[pull]"])
    _, orders, _ = plan_grid(loaded, store, Options(), Stages())
    method = next(c for c in orders[0].missing_cells if c.label == "Pull").spec["method"]
    assert "my-forget 0.1" in {each.origin for each in orders[0].plugins}
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(package)])
    for name in [name for name in sys.modules if name.startswith("my_forget")]:
        del sys.modules[name]
    run_code._digests.pop("my_forget")
    forget_all()
    load_from_store(store, orders[0].plugins)
    assert build_method(method).label == "Pull"
    assert "site" not in str(sys.modules["my_forget"].__file__)


def test_a_package_of_which_one_module_fails_serves_with_the_others() -> None:
    """On a node that has no such package, its modules are known by their texts alone."""
    texts = {"__init__": "", "good": "HERE = 1", "bad": "1 / 0", "other": "HERE = 2"}
    code = Code("odd", {f"my_odd/{name}.py": text for name, text in texts.items()})
    try:
        assert import_code(code, "my_odd.good").HERE == 1
        with pytest.raises(PluginError, match="ZeroDivisionError"):
            import_code(code, "my_odd.bad")
        assert import_code(code, "my_odd.other").HERE == 2
    finally:
        run_code._forget(code)


def test_a_module_may_be_called_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches nodes that lack it under this name, as an entry point names it."""
    (tmp_path / "plugin.py").write_text(METHOD)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        code, module = read_code("plugin")
    assert (code.top, module) == ("plugin", "plugin")
    try:
        assert named("method", "push", code, module, "Push").value.label == "Push"
    finally:
        run_code._forget(code)


def test_a_package_that_no_job_uses_is_not_imported(package: Path, tmp_path: Path) -> None:
    (package / "my_forget" / "pull.py").write_text("raise RuntimeError")
    load_job(write_job(tmp_path))
    with pytest.raises(PluginError, match=r"my-forget 0\.1 cannot be imported: RuntimeError"):
        load_job(tmp_path / "job.yaml", ["grid.methods=[pull]"])


def error_of(folder: Path, source: str, *, job: str = JOB) -> LotusRayError:
    """Return the error of a job that imports a file."""
    path = write_job(folder, job)
    (folder / "own" / "bad.py").write_text(dedent(source))
    with pytest.raises(JobError) as caught:
        load_job(path, imports=[str(folder / "own" / "bad.py")])
    return caught.value


TAKEN_NAMES = {
    "method": METHOD.replace('"push"', '"lotus"'),
    "label": METHOD.replace('"push"', '"mine"').replace('"Push"', '"LoTUS"'),
    "another plug-in": METHOD + "\nADDED = 1\n",
    "source": 'import lotus_ray\nmine = lotus_ray.Source("digits", "", print)',
    "metric": "import lotus_ray\n@lotus_ray.metric()\ndef zrf(outputs, original): return 0",
}


@pytest.mark.parametrize("kind", TAKEN_NAMES)
def test_a_name_that_is_taken_is_refused(kind: str, tmp_path: Path) -> None:
    error = error_of(tmp_path, TAKEN_NAMES[kind])
    assert "is taken" in error.what
    assert "bad.py" in error.where


def test_a_model_that_is_built_in_is_refused(tmp_path: Path) -> None:
    source = "import lotus_ray\n@lotus_ray.model\ndef resnet18(num_classes): ..."
    error = error_of(tmp_path, source, job=JOB.replace("tiny_net", "resnet18"))
    assert "the model name 'resnet18' is taken: lotus-ray itself has it already" in error.what


UNUSABLE = {
    "import torhc": ("ModuleNotFoundError: No module named 'torhc'", "bad.py:1"),
    "x = 1\ny = (": ("SyntaxError: '(' was never closed", "bad.py:2"),
    "\n\nraise SystemExit(3)": ("SystemExit: 3", "bad.py:3"),
    "x = 1": ("defines no method, model, source or metric", "bad.py"),
    METHOD.replace("@dataclass(frozen=True)", ""): ("no frozen dataclass", "bad.py"),
    METHOD.replace("lr: float = 0.01", "lr: float"): ("lr has no default", "bad.py"),
    METHOD.replace("lr: float = 0.01", "lr: object = object()"): ("no plain values", "bad.py"),
    METHOD.replace("lr: float", "code: str = ''\n    lr: float"): ("code is no name", "bad.py"),
    METHOD.replace("label: ClassVar", "title_: ClassVar"): ("Push has no label", "bad.py"),
}


@pytest.mark.parametrize("source", UNUSABLE)
def test_what_cannot_be_used_says_what_where_and_what_next(source: str, tmp_path: Path) -> None:
    what, where = UNUSABLE[source]
    job = JOB.replace("own/push.py, ", "")
    error = error_of(tmp_path, source, job=job)
    assert what in error.what
    assert error.where.endswith(where)
    assert error.next_command


@pytest.mark.parametrize(
    ("name", "what"),
    [("no/such.py", "No such file"), ("no_such_module", "no module 'no_such_module'")],
)
def test_what_is_not_there_is_named(name: str, what: str, job: Path) -> None:
    with pytest.raises(PluginError, match=what):
        load_job(job, imports=[name])


def test_what_an_import_prints_is_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "push.py").write_text('print("hello")' + METHOD)
    use_plugins([str(tmp_path / "push.py")])
    assert capsys.readouterr() == ("", "hello\n")


def test_a_metric_or_a_model_that_fails_is_named(job: Path, tmp_path: Path) -> None:
    file = tmp_path / "own" / "others.py"
    right = file.read_text()
    file.write_text(right.replace("outputs.of(outputs.confidence", "outputs.of(outputs.gone"))
    (row, *_) = run(load_job(job), tmp_path / "store").rows.values()
    what = "the metric forget_confidence fails: AttributeError: 'Outputs' object has no attribute"
    assert row.first_error_line.startswith(what)
    file.write_text(right.replace("nn.Linear(width, num_classes)", "nn.Linear(width, 5)"))
    with pytest.raises(JobError, match=r"tiny_net answers with shape \[2, 5\].*needs \[2, 3\]"):
        run(load_job(job), tmp_path / "other")


def test_a_note_names_the_files_of_a_package_that_do_not_count(job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pushes"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text(METHOD.replace('"push"', '"p2"').replace('"Push"', '"P2"'))
    (folder / "__init__.pyi").write_text("")
    assert not [note for note in load_job(job, imports=[str(folder)]).notes if "pushes" in note]
    for name in ("data/ids.txt", "means.npy", ".hidden"):
        (folder / name).write_text("1")
    (note,) = (each for each in load_job(job, imports=[str(folder)]).notes if "pushes" in each)
    assert "no Python (data/ids.txt and 1 more)" in note


@pytest.mark.parametrize(
    "override", ["grid.methods=[pusch]", "model.name=tini_net", "metrics=[forget_konfidence]"]
)
def test_an_unknown_name_says_which_plugins_were_looked_at(override: str, job: Path) -> None:
    with pytest.raises(JobError, match=r"plug-ins looked at: .*push\.py, .*others\.py") as caught:
        load_job(job, [override])
    assert caught.value.nearest in ("push", "tiny_net", "forget_confidence")


def test_files_of_a_job_are_relative_to_it_also_where_another_extends_it(tmp_path: Path) -> None:
    write_job(tmp_path)
    (tmp_path / "below").mkdir()
    upper = tmp_path / "below" / "upper.yaml"
    upper.write_text("extends: ../job.yaml\nstore: other\n")
    assert load_job(upper).methods[0][-1].label == "Push"


def test_list_shows_plugins(job: Path) -> None:
    file = str(job.parent / "own" / "push.py")
    shown = CliRunner().invoke(main, ["list", "methods", "--import", file]).output
    assert f"Push away from the forget set. lr=0.01 ({file})" in shown


def test_the_names_of_built_in_metrics_are_those_of_reports() -> None:
    use_plugins()
    names = {*METRICS, *(metric.figure for metric in METRICS.values())}
    assert names - TAKEN <= {"forget_confidence", "never"}
