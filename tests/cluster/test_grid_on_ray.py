"""A grid on Ray, in this process: the rows are those of `--local`, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lotus_ray.cli.main import main
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

# Alone, as CI does: Ray's start of a dozen processes beside other tests can take ten minutes.
pytestmark = [pytest.mark.ray, pytest.mark.cluster]
JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
SMALL = (
    *("--limit", "40", "--set", "epochs=1", "--set", "grid.methods=[original, finetune]"),
    *("--set", "grid.models.0.options={width: 4}"),
    *("--set", "grid.models.0.train={lr: 0.1, epochs: 2, warmup_epochs: 1}"),
)


def rows(store: Path, *options: str) -> dict[str, Row]:
    """Run the small grid; return its rows by method."""
    result = CliRunner().invoke(main, ["grid", str(JOB), "--store", str(store), *SMALL, *options])
    assert result.exit_code == 0, result.stderr
    assert "DONE 2/2 cells, 0 failed" in result.stderr
    assert result.stderr.count("decoding 160 images") == 1
    return {row.method: row for row in Store.open(str(store)).rows().values()}


@pytest.mark.usefixtures("no_page")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own options, at import
def test_a_grid_on_ray_has_the_rows_of_a_local_one(tmp_path: Path) -> None:
    on_ray, local = rows(tmp_path / "ray"), rows(tmp_path / "local", "--local")
    assert on_ray.keys() == local.keys() == {"Original", "Finetuning"}
    for method, row in local.items():
        assert on_ray[method].artifacts[WEIGHTS].sha256 == row.artifacts[WEIGHTS].sha256
        assert on_ray[method].metrics == row.metrics
        assert on_ray[method].change == row.change
    assert on_ray["Finetuning"].change["weights_moved"] > 0.5
