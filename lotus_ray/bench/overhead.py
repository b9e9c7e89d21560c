"""The overhead of a cell: its seconds beyond its own compute, in a small grid of digits."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path

from lotus_ray.bench.scoreboard import Measurements, Score
from lotus_ray.bench.timing import medians_without_warm_up
from lotus_ray.grid import run
from lotus_ray.grid.options import Options
from lotus_ray.job.load import load_job
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

MOST_SECONDS = 3.0
METHODS = ("original", "finetune", "relabel", "bad_teacher", "ssd", "lotus")
OWN_COMPUTE = ("unlearn_seconds", "evaluate_seconds")
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


def measure(repeats: int) -> Measurements:
    """Run the grid `repeats` times, each time with a new store and a new Ray."""
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

    seconds = medians_without_warm_up(repeats, overhead=once)["overhead"]
    about = (
        f"seconds of a cell beyond its own compute, {len(METHODS)} cells in one group: (first "
        "cell's start to Ray's end − unlearning − evaluation) ÷ cells, without the start of Ray"
    )
    score = Score("C11", about, seconds, MOST_SECONDS, False, repeats)
    rates = {f"grid, {name}, s": taken for name, taken in stages.items()}
    return Measurements({"overhead_seconds_per_cell": score}, rates)


def seconds_beyond(rows: Mapping[str, Row], stages: Mapping[str, float]) -> float:
    """Return (seconds of the grid − Σ seconds of unlearning and evaluation) ÷ number of cells.

    Args:
        rows: of all cells, by id. One cell ran at a time.
        stages: seconds from the grid's outcome. "cells" is from the first cell to Ray's end.

    Raises:
        RuntimeError: a cell failed.
    """
    failed = [f"{row.method}: {row.status}" for row in rows.values() if not row.is_ok]
    if failed or not rows:
        raise RuntimeError(f"the measured grid failed: {', '.join(failed)}")
    own = sum(row.timing[name] for row in rows.values() for name in OWN_COMPUTE)
    return float(stages["cells"] - own) / len(rows)
