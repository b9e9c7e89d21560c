"""`lotus-ray evaluate`: weights and predictions of another tool become rows like any other."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load

import lotus_ray
from lotus_ray.cli.main import main
from lotus_ray.metrics.outputs import SAMPLES
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

JOB = str(Path(__file__).parents[2] / "jobs" / "digits.yaml")
QUICK = (
    *("--set", "epochs=1", "--set", "grid.models.0.options={width: 2}", "--limit", "20"),
    *("--set", "grid.models.0.train={epochs: 1, batch_size: 64}"),
    *("--set", "grid.methods=[gold, {name: lotus, alpha: 8}]"),
)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def evaluate(store: Path, *arguments: object) -> Result:
    return run("evaluate", JOB, "--store", store, *QUICK, *arguments)


def rows_of(store: Path) -> dict[str, Row]:
    return {row.method: row for row in Store.open(str(store)).rows().values()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a small grid, and the weights of its LoTUS cell as another tool saves them."""
    folder = tmp_path_factory.mktemp("evaluate")
    result = run("grid", JOB, "--local", "--store", folder / "store", *QUICK)
    assert result.exit_code == 0, result.stderr
    store = Store.open(str(folder / "store"))
    weights = load(store.artifact(rows_of(folder / "store")["LoTUS"], WEIGHTS))
    saved = {"state_dict": {f"module.{name}": value for name, value in weights.items()}, "epoch": 1}
    torch.save(saved, folder / "theirs.pth")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def test_weights_of_another_tool_give_the_metrics_of_the_grid(folder: Path) -> None:
    store = folder / "store"
    result = evaluate(store, "--weights", folder / "theirs.pth", "--label", "Their tool")
    assert result.exit_code == 0, result.stderr
    assert "Their tool" in result.stdout
    rows = rows_of(store)
    theirs, ours = rows["Their tool"], rows["LoTUS"]
    assert theirs.metrics == ours.metrics
    assert theirs.intervals == ours.intervals
    assert theirs.change == ours.change
    assert theirs.artifacts[WEIGHTS].sha256 == ours.artifacts[WEIGHTS].sha256
    assert set(theirs.undefined) - set(ours.undefined) == {"unlearn_seconds"}
    assert "unlearn_seconds" not in theirs.timing
    content = (folder / "theirs.pth").read_bytes()
    assert theirs.provenance is not None
    told = {name: theirs.provenance[name] for name in ("file", "bytes", "sha256", "label")}
    digest = hashlib.sha256(content).hexdigest()
    assert told == {
        "file": "theirs.pth",
        "bytes": len(content),
        "sha256": digest,
        "label": "Their tool",
    }
    assert theirs.spec["method"]["sha256"] == digest
    report = json.loads(run("report", store, "--format", "json").stdout)
    line = [each for each in report if each["method"] == "Their tool"]
    assert {each["metric"]: each["mean"] for each in line}["jsd"] is not None
    assert {each["metric"]: each["mean"] for each in line}["time_min"] is None
    again = run("report", store, "--recompute")
    assert "no Time s: the seconds of what was made elsewhere" in again.stdout
    assert "made elsewhere: Their tool (theirs.pth, SHA-256 " in again.stdout
    assert again.stdout == run("report", store).stdout


def test_repeating_it_does_nothing_and_another_label_is_told(folder: Path) -> None:
    store, weights = folder / "store", folder / "theirs.pth"
    first = json.loads(evaluate(store, "--weights", weights, "--json").stdout)
    assert (first["method"], first["is_new"]) == ("theirs", True)
    before = sorted(path for path in store.rglob("*"))
    second = evaluate(store, "--weights", weights, "--label", "other", "--json")
    assert json.loads(second.stdout) == {**first, "is_new": False}
    assert "theirs: its row was there already" in second.stderr
    assert sorted(path for path in store.rglob("*")) == before


def test_python_says_what_the_command_says(folder: Path, capsys: Any) -> None:
    changes = [value for key, value in zip(QUICK[::2], QUICK[1::2], strict=True) if key == "--set"]
    evaluated = lotus_ray.evaluate(
        JOB,
        weights=folder / "theirs.pth",
        store=folder / "fresh",
        limit=20,
        overrides=[*changes, "resources.lanes_at_once=1"],
    )
    assert evaluated.is_new
    said = capsys.readouterr().err
    assert "note: " in said
    assert "the original, so it runs first" in said


def test_without_a_row_of_the_original_it_runs_first(folder: Path) -> None:
    fresh = folder / "fresh"
    result = evaluate(fresh, "--weights", folder / "theirs.pth")
    assert result.exit_code == 0, result.stderr
    assert "the original, so it runs first" in result.stderr
    theirs = rows_of(fresh)["theirs"]
    assert theirs.metrics == rows_of(folder / "store")["LoTUS"].metrics
    assert set(rows_of(fresh)) == {"Original", "theirs"}


def random_logits(folder: Path) -> tuple[list[str], np.ndarray]:
    store = Store.open(str(folder / "store"))
    content = store.artifact(rows_of(folder / "store")["LoTUS"], SAMPLES)
    ids = pq.read_table(pa.BufferReader(content))["sample_id"].to_pylist()
    return ids, np.random.default_rng(1).normal(size=(len(ids), 10)).astype(np.float32)


def write(ids: list[str], logits: np.ndarray, path: Path) -> Path:
    if path.suffix == ".npz":
        np.savez(path, sample_id=np.array(ids), logits=logits)
        return path
    columns: dict[str, Any] = {"sample_id": ids}
    if path.suffix == ".parquet":
        pq.write_table(pa.table({**columns, "logits": logits.tolist()}), path)
        return path
    lines = [
        ",".join([name, *map(repr, row.tolist())]) for name, row in zip(ids, logits, strict=True)
    ]
    path.write_text("\n".join(["sample_id," + ",".join(map(str, range(10))), *lines]))
    return path


def test_predictions_alone_become_a_row_in_every_form(folder: Path) -> None:
    store = folder / "store"
    ids, logits = random_logits(folder)
    metrics = []
    for suffix in ("npz", "parquet", "csv"):  # a name may end in capitals, as Excel writes it
        path = write(
            [*ids[::-1], "else"],
            np.vstack([logits[::-1], logits[:1]]),
            folder / f"{suffix}.{suffix}",
        )
        path = path.rename(path.with_suffix(path.suffix.upper()))
        result = evaluate(store, "--predictions", path)
        assert result.exit_code == 0, result.stderr
        row = rows_of(store)[suffix]
        metrics.append(row.metrics)
        assert "predictions alone have no weights" in row.undefined["weights_moved"]
        assert WEIGHTS not in row.artifacts
    assert metrics[0] == metrics[1] == metrics[2]
    samples = pq.read_table(
        pa.BufferReader(Store.open(str(store)).artifact(rows_of(store)["npz"], SAMPLES))
    ).to_pydict()
    order = {name: place for place, name in enumerate(ids)}
    right = [
        int(logits[order[name]].argmax() == label)
        for name, label, role in zip(
            *(samples[n] for n in ("sample_id", "labels", "role")), strict=True
        )
        if role == "retain"
    ]
    assert metrics[0]["retain_accuracy"] == sum(right) / len(right)


WRONG: dict[str, Any] = {
    "lacks 1 of ": lambda ids, x: (ids[1:], x[1:]),
    "a sample stands in it twice": lambda ids, x: (ids[:-1] + ids[:1], x),
    "logits of 9 classes, the data 10": lambda ids, x: (ids, x[:, :9]),
    "are NaN or infinite": lambda ids, x: (ids, x * np.nan),
    "logits are complex": lambda ids, x: (ids, x.astype(np.complex64)),
    "are probabilities": lambda ids, x: (ids, np.exp(x) / np.exp(x).sum(1, keepdims=True)),
}


def test_wrong_predictions_are_refused_before_anything_is_written(
    made: Path, tmp_path: Path
) -> None:
    for what, change in WRONG.items():
        path = write(*change(*random_logits(made)), tmp_path / "p.npz")
        result = evaluate(tmp_path / "store", "--predictions", path)
        assert result.exit_code == 2
        assert what in result.stderr
    assert not (tmp_path / "store").exists()


def test_what_does_not_fit_is_refused_before_anything_is_written(
    made: Path, tmp_path: Path
) -> None:
    torch.save(resnet18_cifar(num_classes=5, width=2).state_dict(), tmp_path / "five.pth")
    for arguments, what in (
        (("--weights", tmp_path / "five.pth"), "they are of 5 classes, and the data have 10"),
        (("--weights", tmp_path / "none.pth"), "cannot be read"),
        (("--weights", made / "theirs.pth", "--seed", 5), "the job has no seed 5"),
        (("--weights", made / "theirs.pth", "--label", "lotus"), "LoTUS is the label of a method"),
        ((), "give either weights"),
    ):
        result = evaluate(tmp_path / "store", *arguments)
        assert result.exit_code == 2
        assert what in result.stderr
    assert not (tmp_path / "store").exists()
