"""Stores with rows of cells that never ran, outputs of their samples and all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lotus_ray.metrics.outputs import Outputs
from lotus_ray.report.collect import collect
from lotus_ray.report.entries import Group, groups
from lotus_ray.report.figures import draw
from lotus_ray.store.results import Store
from lotus_ray.store.row import FORMAT, OK, Row

LABELS = {
    "original": "Original",
    "gold": "Gold Std",
    "finetune": "Finetuning",
    "scrub": "SCRUB",
    "ssd": "SSD",
    "lotus": "LoTUS",
}
HOSTILE = "</script><script>alert(1)</script>$x_2$ & \"q\" 'a'"
SAMPLES = {"forget": 12, "retain": 40, "unseen": 10, "test": 10}


def outputs(
    seed: int, method: str = "", entropy: float = 0.1, roles: dict[str, int] | None = None
) -> dict[str, bytes]:
    """Return the files of a model whose outputs are random, around an entropy in nats."""
    counts = SAMPLES if roles is None else roles
    rng = np.random.default_rng([seed, sum(map(ord, method))])
    rows = sum(counts.values())
    probs = rng.dirichlet([1.0, 1.0], counts.get("forget", 0))
    return Outputs(
        roles=np.repeat(list(counts), list(counts.values())),
        labels=np.zeros(rows, dtype=np.int64),
        predicted=np.zeros(rows, dtype=np.int64),
        entropy=entropy * rng.lognormal(size=rows),
        loss=np.zeros(rows),
        margin=np.zeros(rows),
        confidence=np.ones(rows),
        forget_probs=probs,
        class_sums={"forget": np.zeros((2, 2))},
    ).to_files([str(row) for row in range(rows)])


def commit(
    store: Store,
    method: str,
    seed: int = 1,
    *,
    params: dict[str, Any] | None = None,
    metrics: dict[str, float | None] | None = None,
    error: str | None = None,
    traceback: str = "",
    files: dict[str, bytes] | None = None,
    **row: Any,
) -> str:
    """Commit the row of a cell; return the cell's id."""
    is_first = method in ("original", "gold")
    recipe: dict[str, Any] = {"epochs": 5} if is_first else {}
    if method == "gold":
        recipe["training_seed"] = None
    spec: dict[str, Any] = {
        "method": {"name": method, "version": 1, **recipe, **(params or {})},
        "data": "d",
        "roles": f"roles of {seed}",
        "model": {"name": "net", "options": {}},
        "seed": seed,
    }
    where = row.get("benchmark", "Digits")
    spec["data"] = where
    if not is_first:
        spec["weights"] = _id("original", seed, None, where)
    cell_id = _id(method, seed, params, where)
    rng = np.random.default_rng([seed, len(cell_id), sum(map(ord, method))])
    accuracies = {f"{r}_accuracy": float(rng.uniform(0.6, 1)) for r in ("forget", "retain", "test")}
    body: dict[str, Any] = {
        "benchmark": "Digits",
        "model": "Net",
        "setting": "instance_10pct",
        "method": LABELS.get(method, method),
        "seed": seed,
        "smoke": False,
        "spec": spec,
        "status": OK,
        "metrics": {
            **accuracies,
            "unseen_accuracy": 0.75,
            "mia_accuracy": 0.5,
            "rf_jsd": float(rng.uniform(0.001, 0.1)),
            **(metrics or {}),
        },
        "undefined": {},
        "timing": {
            "prepare_seconds": 0.25,
            "unlearn_seconds": float(rng.uniform(1, 20)),
            "evaluate_seconds": 0.5,
        },
        "phases": [{"steps": 5, "loss": 1 / epoch} for epoch in range(1, 4)],
        "data_notes": [],
        "committed_at": "2026-01-02T03:04:05+00:00",
        "resources": {"device": "CPU", "device_type": "cpu", "workers": 1},
        "versions": {"python": "3.11", "torch": "2.6"},
        **row,
    }
    if error is not None:
        body |= {"status": "failed", "metrics": {}, "timing": {}, "phases": []}
        body["error"] = {"type": "Diverged", "message": error, "traceback": traceback}
    attempt = store.begin(cell_id, 0, {})
    kept = outputs(seed, method) if files is None else files
    store.commit(
        attempt, Row.from_json({"format": FORMAT, **body}), {} if error is not None else kept
    )
    return cell_id


def lotus_phases(taus: Sequence[float]) -> list[dict[str, float]]:
    """Return phases as LoTUS notes them: the forget accuracy falls with each epoch."""
    return [
        {
            "steps": 5,
            "loss": 0.5,
            "tau": tau,
            "forget_accuracy": 1 - 0.1 * epoch,
            "unseen_accuracy": 0.75,
        }
        for epoch, tau in enumerate(taus)
    ]


def three_seeds(store: Store) -> None:
    """Fill a store with an original, gold standards and four methods, three seeds each."""
    for seed in (1, 2, 3):
        commit(store, "original", seed)
        commit(store, "gold", seed)
        commit(store, "gold", seed, params={"training_seed": 1})
        commit(store, "finetune", seed)
        commit(store, "scrub", seed)
        commit(store, "ssd", seed, phases=[])
        commit(store, "lotus", seed, phases=lotus_phases([1.2, 1.1, 1.0]))


def group_of(store: Store) -> Group:
    """Return the only table of a store."""
    (only,) = groups(collect(store))
    return only


def figure_of(name: str, store: Store) -> Figure:
    """Return a figure of the only table of a store."""
    figure = draw(name, group_of(store), store).figure
    assert figure is not None
    return figure


def _id(method: str, seed: int, params: dict[str, Any] | None, where: str) -> str:
    key = (method, seed, params or {}, where)
    return hashlib.sha256(repr(key).encode()).hexdigest()[:20]
