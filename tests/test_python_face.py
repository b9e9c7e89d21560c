"""`import lotus_ray`: what runs, and what is refused."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lotus_ray
from lotus_ray.base.errors import DataError, JobError, MethodError
from lotus_ray.data.roles.table import Roles
from lotus_ray.grid.run_job import Run
from lotus_ray.models.resnet_cifar import BUILDERS
from lotus_ray.models.weights import WEIGHTS, weights_from_bytes
from lotus_ray.store.row import Row
from lotus_ray.unlearning.methods.lotus import Lotus

DOCS = Path(__file__).parent.parent / "docs"
RECIPE = {"epochs": 1, "lr": 0.1, "batch_size": 32}
JOB = {
    "store": "STORE",
    "epochs": 2,
    "batch_size": 48,
    "grid": {
        "methods": ["gold", {"name": "lotus", "alpha": 8, "lr": 1e-3}, "bad_teacher", "cf_k"],
        "datasets": [
            {"name": "digits", "source": "digits", "forget": {"fraction": 0.1}, "img_size": 8}
        ],
        "models": [{"name": "resnet18_cifar", "options": {"width": 2}, "train": RECIPE}],
        "seeds": [7],
    },
}
Data = dict[str, tuple[Tensor, Tensor]]


def network() -> nn.Module:
    return BUILDERS["resnet18_cifar"](num_classes=10, width=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("face") / "store"
    return lotus_ray.run(JOB, store=store, local=True, limit=60)


@pytest.fixture(scope="module")
def rows(done: Run) -> dict[str, Row]:
    return {row.spec["method"]["name"]: row for row in done.rows}


@pytest.fixture(scope="module")
def roles(done: Run) -> Roles:
    (path,) = (Path(done.store.location) / "roles").iterdir()
    return Roles.from_parquet(path.read_bytes())


@pytest.fixture(scope="module")
def data(roles: Roles) -> Data:
    """The images of the grid, as its batches hold them."""
    scans = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    numbers = [int(name.rpartition("/")[2]) for name in roles.sample_ids]
    pixels = torch.from_numpy(scans[numbers])[:, None].expand(-1, 3, -1, -1)
    images = pixels.float().mul(torch.tensor(1 / 127.5, dtype=torch.float64).float()).add(-1.0)
    return {
        role: (images[roles.indices(role)], torch.from_numpy(roles.labels[roles.indices(role)]))
        for role in ("forget", "retain", "unseen", "test")
    }


@pytest.fixture(scope="module")
def original(done: Run, rows: dict[str, Row]) -> nn.Module:
    model = network()
    model.load_state_dict(weights_from_bytes(done.store.artifact(rows["original"], WEIGHTS)))
    return model


@pytest.fixture
def in_memory(data: Data, original: nn.Module) -> Callable[..., lotus_ray.trial.unlearn.Unlearned]:
    """Call `unlearn` with the data of the grid, but for what is given."""

    def call(*method: Any, **given: Any) -> Any:
        arguments = {"model": original, **data, "new_model": network, **given}
        return lotus_ray.unlearn(*(arguments.pop(name) for name in ARGUMENTS), *method, **arguments)

    return call


ARGUMENTS = ("model", "forget", "retain", "unseen")


@pytest.mark.parametrize(
    ("method", "hyper"),
    [
        ("lotus", {"alpha": 8, "lr": 1e-3, "epochs": 2, "batch_size": 48}),
        ("bad_teacher", {"epochs": 2, "batch_size": 48}),
        ("cf_k", {"epochs": 2, "batch_size": 48}),
        ("gold", RECIPE),
    ],
)
def test_it_gives_the_weights_and_metrics_of_a_cell(
    method: str,
    hyper: dict[str, Any],
    done: Run,
    rows: dict[str, Row],
    roles: Roles,
    in_memory: Any,
) -> None:
    """To the last bit, for a method with noise, with a random network, of layers, and training."""
    ids = {
        role: [roles.sample_ids[row] for row in roles.indices(role)]
        for role in ("forget", "retain", "unseen", "test")
    }
    result = in_memory(method, seed=7, sample_ids=ids, **hyper)
    stored = weights_from_bytes(done.store.artifact(rows[method], WEIGHTS))
    weights = result.model.state_dict()
    assert {name for name in stored if not torch.equal(stored[name], weights[name])} == set()
    assert result.metrics == rows[method].metrics
    assert result.before == rows["original"].metrics
    assert result.intervals == rows[method].intervals
    assert result.seconds > 0


def test_the_seed_selects_the_random_numbers(in_memory: Any) -> None:
    same, again, other = (in_memory("finetune", seed=seed, epochs=1) for seed in (1, 1, 2))
    weights = [torch.cat([v.flatten() for v in r.model.parameters()]) for r in (same, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_model_and_the_settings_of_torch_are_as_before(
    in_memory: Any, original: nn.Module
) -> None:
    model = copy.deepcopy(original).train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    random = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            result = in_memory("finetune", model=model, epochs=1)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    assert not result.model.training
    changed = zip(result.model.parameters(), model.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in changed)
    assert not result.model._forward_pre_hooks


class Plain(nn.Module):
    """The network of many tutorials: its head is called fc2, and fc is none."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 20)
        self.fc2 = nn.Linear(20, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc2(self.fc(images.flatten(1)).relu())
        return logits


def test_a_network_of_ones_own_on_a_dataset_of_grey_images(data: Data) -> None:
    """EU-k with k = 1 trains the head alone, anew: so the head must be the right one."""
    sets = {
        role: [(image[:1].double(), label) for image, label in zip(*data[role], strict=True)]
        for role in ("forget", "retain", "unseen")
    }
    model = Plain().double()
    result = lotus_ray.unlearn(model, **sets, method="eu_k", k=1, epochs=1)
    assert torch.equal(result.model.fc.weight, model.fc.weight)
    assert not torch.equal(result.model.fc2.weight, model.fc2.weight)
    assert result.metrics["test_accuracy"] is None
    assert result.undefined["test_accuracy"] == "the test set is empty"
    header, *lines = repr(result).splitlines()
    assert header.split()[0] == "Method"
    assert [line.split()[0] for line in lines] == ["Original", "EU-k"]
    assert "Test" not in header


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"forget": lambda x, y: (x[:0], y[:0])}, DataError, "there are no images.*forget"),
        ({"retain": lambda x, y: (x[:, :, :4], y)}, DataError, "shape.*3, 4, 8.*retain"),
        ({"unseen": lambda x, y: (x, y + 9)}, DataError, "none of the model's 10.*unseen"),
        ({"unseen": lambda x, y: (x, y[1:])}, DataError, "60 images, and labels of shape"),
        ({"unseen": lambda x, y: (x, y.float())}, DataError, "labels are torch.float32"),
        ({"retain": lambda x, y: (x.byte(), y)}, DataError, "wants them normalised"),
        ({"retain": lambda x, y: (x / 0, y)}, DataError, "NaN or infinity"),
        ({"retain": lambda x, y: [x[0], x[1]]}, DataError, "an item is|labels"),
        ({"retain": lambda x, y: [(x[0], 1), (x[0, :, 1:], 1)]}, DataError, r"retain\[1\]"),
        ({"retain": lambda x, y: [("a.png", 1)]}, DataError, "not a tensor"),
        ({"retain": lambda x, y: iter(())}, DataError, "no data set"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(3, 2))}, JobError, "does not take images"),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.Softmax(1))},
            JobError,
            "probabilities",
        ),
        ({"model": network().half()}, JobError, "float32, or all float64"),
        ({"model": "resnet"}, JobError, "no torch module"),
        ({"new_model": Plain}, JobError, "builds another network"),
        ({"method": "lotos"}, JobError, "nearest: lotus"),
        ({"method": "original"}, JobError, "the original already"),
        ({"alhpa": 2}, MethodError, "nearest: alpha"),
        ({"alpha": "much"}, MethodError, "lotus: alpha"),
        ({"method": Lotus(), "alpha": 2}, MethodError, "has its hyper-parameters already"),
        ({"epochs": 0}, MethodError, "epochs is 0"),
        ({"batch_size": 0}, JobError, "batch_size is 0"),
        ({"sample_ids": {"forget": ["a"]}}, DataError, "1 ids and"),
        ({"sample_ids": {"forget": []}}, DataError, "0 ids and"),
        ({"sample_ids": {"forgot": ["a"]}}, DataError, "no samples of forgot"),
        ({"method": lotus_ray.Method}, JobError, r"no method yet.*Method\(…\)"),
        ({"pixel_range": (0,)}, DataError, "a black and a white pixel"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    change: dict[str, Any], error: type[Exception], words: str, data: Data, in_memory: Any
) -> None:
    given = {name: value(*data[name]) if name in data else value for name, value in change.items()}
    if "new_model" in given:
        given["method"] = "bad_teacher"
    with pytest.raises(error) as raised:
        in_memory(given.pop("method", "lotus"), **given)
    assert re.search(words, str(raised.value), re.DOTALL)


def test_sets_that_are_not_apart_are_refused(data: Data, in_memory: Any) -> None:
    everything = tuple(torch.cat(pair) for pair in zip(data["forget"], data["retain"], strict=True))
    with pytest.raises(DataError, match="every image of forget is in retain too"):
        in_memory("lotus", retain=everything)
    few = tuple(
        torch.cat([ours, theirs[:2]])
        for ours, theirs in zip(data["retain"], data["forget"], strict=True)
    )
    with pytest.warns(UserWarning, match="2 images are in forget and in retain"):
        in_memory("ssd", retain=few)


def test_a_run_has_rows_a_table_and_an_outcome(done: Run) -> None:
    assert [row.method for row in done.rows][:2] == ["Original", "Gold Std"]
    assert done.outcome.done == len(done) == 5
    assert repr(done).startswith("DONE 5/5 cells, 0 failed")
    assert "digits, resnet18_cifar, instance_10pct_smoke60" in repr(done.table())
    again = lotus_ray.run(JOB, store=done.store.uri, local=True, limit=60)
    assert again.outcome.ran == set()
    assert len(lotus_ray.open_store(done.store.uri)) == 5


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("store: a\ngrid: b\n", "a dictionary, and this is text"),
        (7, "a dictionary, and this is int"),
        ({**JOB, "epochz": 2}, "where: JOB epochz"),
        ({**JOB, "epochs": np.int64(2)}, "no .*int64"),
        ({**JOB, "epochs": -1}, "where: JOB epochs"),
        ("no such file.yaml", "cannot be read"),
    ],
)
def test_a_job_that_is_wrong_is_one_clear_error(job: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(JobError) as raised:
        lotus_ray.run(job, store=tmp_path / "store", local=True)
    assert re.search(words, str(raised.value))
    assert not (tmp_path / "store").exists()


def test_evaluate_gives_weights_of_another_tool_the_figures_of_the_grid(
    done: Run, rows: dict[str, Row], tmp_path: Path
) -> None:
    shutil.copytree(done.store.location, tmp_path / "store")
    weights = weights_from_bytes(done.store.artifact(rows["lotus"], WEIGHTS))
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "w.pth")
    given = {"store": tmp_path / "store", "limit": 60}
    first = lotus_ray.evaluate(JOB, weights=tmp_path / "w.pth", label="theirs", **given)
    assert (first.is_new, first.row.method) == (True, "theirs")
    assert first.row.metrics == rows["lotus"].metrics
    assert first.row.intervals == rows["lotus"].intervals
    assert first.row.provenance is not None
    assert first.row.provenance["file"] == "w.pth"
    again = lotus_ray.evaluate(JOB, weights=str(tmp_path / "w.pth"), **given)
    assert (again.is_new, again.row.cell_id) == (False, first.row.cell_id)
    assert "theirs" in str(lotus_ray.open_store(tmp_path / "store").table())
    with pytest.raises(JobError, match="either weights"):
        lotus_ray.evaluate(JOB, **given)
    with pytest.raises(JobError, match=r"gone\.pth|No such file"):
        lotus_ray.evaluate(JOB, weights=tmp_path / "gone.pth", **given)
    with pytest.raises(JobError, match="dict is not the path of a file"):
        lotus_ray.evaluate(JOB, weights={"fc.bias": 0}, **given)
    with pytest.raises(JobError, match="list is not the path of a file"):
        lotus_ray.evaluate(JOB, predictions=[[0.1]], **given)


def test_every_public_name_is_there() -> None:
    for name in lotus_ray.__all__:
        assert getattr(lotus_ray, name) is not None
    assert set(lotus_ray.__all__) <= set(dir(lotus_ray))
    with pytest.raises(AttributeError, match="no attribute 'unlern'"):
        _ = lotus_ray.unlern
    documented = "".join((DOCS / name).read_text() for name in ("python.md", "plugins.md"))
    for name in set(lotus_ray.__all__) - {"__version__"}:
        assert name in documented
    for name in ("run", "open_store", "evaluate", "unlearn"):
        assert f"`{name}(" in documented


def test_what_the_documentation_shows_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_page: None, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "python.md").read_text(), re.M | re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    shown = capsys.readouterr().out
    assert re.search(r"^LoTUS +\d", shown, re.M)
    assert "Original 1 ok" in shown
    assert len(names["frame"]) == 4
    assert (tmp_path / "report.html").exists()
