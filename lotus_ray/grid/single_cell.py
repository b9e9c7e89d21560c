"""`lotus-ray unlearn`: one cell of a job, its weights and a run card in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import CellError, JobError
from lotus_ray.grid.options import Options
from lotus_ray.grid.run import run_grid
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.load import LoadedJob, load_job
from lotus_ray.models.weights import WEIGHTS
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.unlearning.methods import registered_name

MODEL = "model.safetensors"
CARD_JSON = "run-card.json"
CARD = "run-card.md"


def load_one(
    path: Path, method: str, overrides: Sequence[str] = (), imports: Sequence[str] = ()
) -> LoadedJob:
    """Read a job, reduced to one method with the job's hyper-parameters.

    Args:
        path: of the job.
        method: name of the method. It need not be in the job.
        overrides: A.B=C, from the command line.
        imports: plug-ins, from the command line.

    Raises:
        JobError: the job is wrong, has several variants of the method, or has several groups.
    """
    method = registered_name(method)
    methods = load_job(path, overrides, imports).job.grid.methods
    listed = [m for m in methods if method == _name_of(m)]
    if len(listed) > 1:
        raise JobError(
            f"the job lists {len(listed)} variants of {method}",
            where=str(path),
            next_command=f"lotus-ray unlearn {path} --set grid.methods=[{{name: {method}, …}}]",
        )
    entry = json.dumps(listed[0] if listed else method)
    loaded = load_job(path, [*overrides, f"grid.methods=[{entry}]"], imports)
    grid = loaded.job.grid
    for name in ("datasets", "models", "seeds"):
        if len(getattr(grid, name)) > 1:
            raise JobError(
                f"unlearn runs one cell, and the job has {len(getattr(grid, name))} {name}",
                where=f"{path} grid.{name}",
                next_command=f"lotus-ray unlearn {path} --method {method} "
                f"--set grid.{name}=[…] --output DIR",
            )
    return loaded


def _name_of(entry: str | dict[str, Any]) -> str:
    return registered_name(entry if isinstance(entry, str) else str(entry.get("name")))


def unlearn_to(loaded: LoadedJob, store: Store, output: Path, options: Options) -> Row:
    """Run the one method of a job (and its original) and write the result to a folder.

    Args:
        loaded: from `load_one`.
        store: of the rows.
        output: a folder that does not exist yet. It appears in one step.
        options: as for `run_grid`.

    Returns:
        The row.

    Raises:
        JobError: `output` exists.
        CellError: the cell failed. The text is its error.
        LotusRayError: see `run_grid`.
    """
    if output.exists():
        raise JobError(
            "the output exists", where=str(output), next_command=f"choose another than {output}"
        )
    outcome = run_grid(loaded, store, options)
    group = outcome.planned.groups[0]
    row = outcome.rows.get(group.cells[-1].cell_id)
    if row is None or not row.is_ok:
        failed = row.error if row else None
        what = failed.message if failed else outcome.error or "the cell did not run"
        raise CellError(
            what,
            where=f"{group.cells[-1].label}, {group.name}",
            next_command="lotus-ray grid JOB.yaml --retry-failed",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".unlearn-", dir=output.parent))
    try:
        card = _card(row, group, store)
        (partial / MODEL).write_bytes(store.artifact(row, WEIGHTS))
        (partial / CARD_JSON).write_text(json.dumps(card, indent=1) + "\n")
        (partial / CARD).write_text(_text(card))
        partial.chmod(0o755)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return row


def _card(row: Row, group: CellGroup, store: Store) -> dict[str, Any]:
    """Return the run card: method, network, data, metrics, times and versions."""
    return {
        "method": row.spec["method"],
        "model": {**row.spec["model"], "num_classes": group.model.num_classes},
        "data": {
            "name": row.benchmark,
            "setting": row.setting,
            "content_sha256": row.spec["data"],
            "calibration_sha256": row.spec.get("calibration"),
            "roles_sha256": row.spec["roles"],
            "transform": row.spec["transform"],
        },
        "seed": row.seed,
        "precision": row.spec["precision"],
        "weights_sha256": row.artifacts[WEIGHTS].sha256,
        "metrics": row.metrics,
        "undefined": row.undefined,
        "timing": row.timing,
        "resources": row.resources.to_json(),
        "versions": row.versions,
        "store": store.uri,
        "cell_id": row.cell_id,
    }


def _text(card: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    method, model, data = card["method"], card["model"], card["data"]
    params = ", ".join(f"{k}={v}" for k, v in method.items() if k not in ("name", "version"))
    metrics = "\n".join(f"| {name} | {value} |" for name, value in card["metrics"].items())
    options = "".join(f", {name}={value!r}" for name, value in model["options"].items())
    return f"""# {method["name"]} on {data["name"]}, {data["setting"]}

| | |
|---|---|
| method | {method["name"]}: {params} |
| network | {model["name"]}, {model["num_classes"]} classes{options} |
| data | {data["name"]}, content {data["content_sha256"]} |
| roles | {data["roles_sha256"]}: `roles/{data["roles_sha256"]}.parquet` in {card["store"]} |
| seed, precision | {card["seed"]}, {card["precision"]} |
| weights | `{MODEL}`, SHA-256 {card["weights_sha256"]} |
| seconds of unlearning | {card["timing"]["unlearn_seconds"]:.1f} on {card["resources"]["device"]} |

| metric | value |
|---|---|
{metrics}

One evaluation pass in eval mode over un-augmented images. Load the weights with
`network.load_state_dict(safetensors.torch.load_file("{MODEL}"))`.
"""
