"""`lotus-ray unlearn`: one cell, its weights and its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from lotus_ray.cli.main import main
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.store.results import Store

JOB = str(Path(__file__).parents[2] / "jobs" / "digits.yaml")
QUICK = (
    *("--set", "epochs=1", "--set", "grid.models.0.options={width: 2}"),
    *("--set", "grid.models.0.train={epochs: 2, batch_size: 64}"),
)


def unlearn(folder: Path, method: str, *options: str) -> Result:
    arguments = ["unlearn", JOB, "--method", method, "--output", str(folder / "out")]
    store = ["--store", str(folder / "store"), "--local"]
    return CliRunner().invoke(main, [*arguments, *store, *QUICK, *options])


def test_weights_and_card_tell_what_was_done(tmp_path: Path) -> None:
    result = unlearn(tmp_path, "lotus")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "out" / "run-card.md")
    card = json.loads((tmp_path / "out" / "run-card.json").read_text())
    assert card["method"]["name"] == "lotus"
    assert card["method"]["alpha"] == 8  # the job's own hyper-parameter
    rows = Store.open(str(tmp_path / "store")).rows()
    row = rows[card["cell_id"]]
    assert {r.method for r in rows.values()} == {"Original", "LoTUS"}
    assert card["metrics"] == row.metrics
    assert (tmp_path / "store" / "roles" / f"{card['data']['roles_sha256']}.parquet").exists()
    network = resnet18_cifar(num_classes=10, width=2).eval()
    network.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
    text = (tmp_path / "out" / "run-card.md").read_text()
    assert f"| test_accuracy | {row.metrics['test_accuracy']} |" in text


def test_a_method_that_the_job_does_not_list_has_its_defaults(tmp_path: Path) -> None:
    result = unlearn(tmp_path, "ssd", "--set", "grid.methods=[ssd]")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "out" / "run-card.json").read_text())["method"]["alpha"] == 10


def test_an_output_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = unlearn(tmp_path, "lotus")
    assert result.exit_code == 2
    assert "the output exists" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("method", "options", "what"),
    [
        ("lotuss", (), "unknown method 'lotuss'"),
        ("lotus", ("--set", "grid.seeds=[1, 2]"), "unlearn runs one cell, and the job has 2 seeds"),
    ],
)
def test_a_wrong_wish_is_one_clear_error(
    tmp_path: Path, method: str, options: tuple[str, ...], what: str
) -> None:
    result = unlearn(tmp_path, method, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {what}")
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_cell_leaves_no_output(tmp_path: Path) -> None:
    result = unlearn(tmp_path, "finetune", "--set", "grid.methods=[{name: finetune, lr: 1.0e+30}]")
    assert result.exit_code == 4
    assert "NaN or infinite" in result.stderr or "loss became" in result.stderr
    assert not (tmp_path / "out").exists()
