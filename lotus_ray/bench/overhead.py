"""What a cell costs beyond its own compute: a small grid of digits, run as `grid` runs it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path

from lotus_ray.bench.scoreboard import Figure, medians_of_starts
from lotus_ray.grid import run
from lotus_ray.grid.options import Options
from lotus_ray.job.load import load_job
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

AT_MOST_SECONDS = 3.0
METHODS = ("original", "finetune", "relabel", "bad_teacher", "ssd", "lotus")
OWN = ("unlearn_seconds", "evaluate_seconds")
JOB = f"""
store: runs
epochs: 1
batch_size: 128
grid:
  methods: [{", ".join(METHODS)}]
  datasets:
    - {{name: digits, source: digits, forget: {{fraction: 0.1}}, img_size: 8}}
  models:
    - name: resnet18_cifar
      options: {{width: 8}}
      train: {{epochs: 2, lr: 0.1, batch_size: 128}}
  seeds: [3407]
"""


def measure(repeats: int) -> tuple[dict[str, Figure], dict[str, float]]:
    """Measure C11, each time in a new store and with a Ray of its own."""
    stages: dict[str, float] = {}

    def once() -> float:
        with tempfile.TemporaryDirectory(prefix="lotus-ray-bench-") as folder:
            job = Path(folder) / "job.yaml"
            job.write_text(JOB)
            loaded = load_job(job, ())
            with redirect_stderr(io.StringIO()):  # the grid's progress
                outcome = run.run_grid(loaded, Store.open(f"{folder}/store"), Options())
        stages.update(outcome.stages)
        return seconds_beyond(outcome.rows, outcome.stages)

    found = medians_of_starts(repeats, overhead=once)["overhead"]
    about = (
        f"seconds a cell beyond its own compute, digits, {len(METHODS)} cells in one group: "
        "(from the first cell's start to Ray's end − unlearning − evaluation of all) ÷ cells; "
        "the start of Ray is no part of it"
    )
    figure = Figure(about, found, AT_MOST_SECONDS, False, repeats)
    return {"C11": figure}, {f"grid, {name}, s": taken for name, taken in stages.items()}


def seconds_beyond(rows: Mapping[str, Row], stages: Mapping[str, float]) -> float:
    """Return (makespan of the cells − Σ seconds of unlearning and evaluation) ÷ cells.

    Args:
        rows: of all cells, by id; each ran alone.
        stages: of the grid's outcome. "cells" begins with the first cell and ends with Ray.

    Raises:
        RuntimeError: a cell failed.
    """
    failed = [f"{row.method}: {row.status}" for row in rows.values() if not row.is_ok]
    if failed or not rows:
        raise RuntimeError(f"the grid that was to be measured failed: {', '.join(failed)}")
    own = sum(row.timing[name] for row in rows.values() for name in OWN)
    return float(stages["cells"] - own) / len(rows)
