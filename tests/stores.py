"""Small stores, their rows committed as a group would."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from lotus_ray.metrics.outputs import Outputs
from lotus_ray.store.results import Store
from lotus_ray.store.row import FORMAT, OK, Row

EVEN, FIRST, LAST = [[0.5, 0.5]], [[1.0, 0.0]], [[0.0, 1.0]]  # softmax outputs, [N_f, C]
LABELS = {"original": "Original", "gold": "Gold Std", "finetune": "Finetuning", "lotus": "LoTUS"}
FIGURES = {
    "forget_accuracy": 0.5,
    "retain_accuracy": 0.5,
    "unseen_accuracy": 0.5,
    "test_accuracy": 0.5,
    "mia_accuracy": 0.5,
    "rf_jsd": 0.25,
    "rf_jsd_compat": 2e-4,
}


def outputs(probs: list[list[float]]) -> dict[str, bytes]:
    """Return the files of a model with these outputs on the forget set."""
    rows = len(probs)
    zeros = np.zeros(rows)
    return Outputs(
        roles=np.array(["forget"] * rows),
        labels=np.zeros(rows, dtype=np.int64),
        predicted=np.zeros(rows, dtype=np.int64),
        entropy=zeros,
        loss=zeros,
        margin=zeros,
        confidence=np.array(probs).max(axis=1),
        forget_probs=np.array(probs),
        class_sums={"forget": np.zeros((2, 2))},
    ).to_files([str(row) for row in range(rows)])


def id_of(method: str, seed: int, *parameters: dict[str, Any] | None) -> str:
    """Return the id of a cell."""
    return hashlib.sha256(repr((method, seed, *(p or {} for p in parameters))).encode()).hexdigest()


def commit(
    store: Store,
    method: str,
    seed: int = 1,
    probs: list[list[float]] = EVEN,
    *,
    params: dict[str, Any] | None = None,
    original: dict[str, Any] | None = None,
    metrics: dict[str, float | None] | None = None,
    seconds: float = 60.0,
    error: str | None = None,
    row_version: int = 0,
    version: int | None = None,
    **fields: Any,
) -> str:
    """Commit the row of a cell as a group would, of a version of metrics; return the cell's id."""
    versioned = [] if version is None else [{"metrics": version}]
    recipe: dict[str, Any] = {"epochs": 5} if method in ("original", "gold") else {}
    if method == "gold":
        recipe["training_seed"] = None
    spec: dict[str, Any] = {
        "method": {"name": method, "version": 1, **recipe, **(params or {})},
        "data": "d",
        "roles": f"roles of {seed}",
        "model": {"name": "net", "options": {}},
        "seed": seed,
    }
    if version is not None:
        spec["metrics"] = version
    if not recipe:
        spec |= {"weights": id_of("original", seed, original, *versioned), "batch_size": 8}
    cell_id = id_of(method, seed, params, *([original] if original else []), *versioned)
    body = {
        "benchmark": "Digits",
        "model": "Net",
        "setting": "instance_10pct",
        "method": LABELS.get(method, method),
        "seed": seed,
        "smoke": False,
        "spec": spec,
        "status": OK,
        "metrics": {**FIGURES, **(metrics or {})},
        "undefined": {},
        "timing": {"prepare_seconds": 1.0, "unlearn_seconds": seconds, "evaluate_seconds": 2.0},
        "phases": [],
        **fields,
    }
    if error:
        body |= {"status": "diverged", "metrics": {}, "timing": {}}
        body |= {"error": {"type": "Diverged", "message": error, "traceback": ""}}
    attempt = store.begin(cell_id, row_version, {})
    row = Row.from_json({"format": FORMAT, **body})
    store.commit(attempt, row, {} if error else outputs(probs))
    return cell_id
