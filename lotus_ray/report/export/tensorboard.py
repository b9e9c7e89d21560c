"""Runs of cells as TensorBoard event files: benchmark/model/setting/method/seed-N/events.out…

The name of a file holds the cell id. So a later export replaces exactly the files of its cells,
even if the method or folder had another name before.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lotus_ray.base.errors import JobError
from lotus_ray.report.export.runs import CellRun, Exported

NEW, REPLACED = "new", "replaced"
_ENDING = ".lotus-ray"
_MOST_BYTES = 120  # of a folder's name


def export(runs: Sequence[CellRun], output: str) -> Exported:
    """Write one event file per cell into a folder, and replace older files of these cells.

    Args:
        runs: from `runs_of`.
        output: a folder. It may hold other runs.

    Returns:
        How many runs are new and replaced.

    Raises:
        JobError: the folder cannot be written.
    """
    root, did = Path(output), Counter[str]()
    try:
        root.mkdir(parents=True, exist_ok=True)
        ours = _files_by_cell(root)
        for run, folder in _folders(runs, root, ours).items():
            cell = _cell(runs[run])
            written = _write(runs[run], folder)
            old = [path for path in ours.get(cell, []) if path != written]
            _remove(old, root)
            did[REPLACED if cell in ours else NEW] += 1
    except OSError as error:
        raise JobError(
            f"the runs cannot be written: {error.strerror or error}",
            where=str(error.filename or output),
            next_command="lotus-ray export STORE --to tensorboard --output FOLDER",
        ) from error
    return Exported(did, output)


def _files_by_cell(root: Path) -> dict[str, list[Path]]:
    result: dict[str, list[Path]] = {}
    for path in root.rglob(f"events.out.tfevents.*{_ENDING}"):
        result.setdefault(path.name.split(".")[-2], []).append(path)
    return result


def _folders(
    runs: Sequence[CellRun], root: Path, ours: Mapping[str, Sequence[Path]]
) -> dict[int, Path]:
    """Return a folder for each run. Cells with the same name get different folders."""
    exported = {_cell(run) for run in runs}
    taken = {path.parent for cell, paths in ours.items() if cell not in exported for path in paths}
    folders = {}
    for index, run in enumerate(runs):
        parts = (run.benchmark, run.model, run.setting, run.method, f"seed-{run.seed}")
        folder = root.joinpath(*map(_safe, parts))
        if folder in taken:
            folder = folder.with_name(f"{folder.name}-{_cell(run)}")
        taken.add(folder)
        folders[index] = folder
    return folders


def _write(run: CellRun, folder: Path) -> Path:
    """Write the events of a run to a hidden file, then rename it, so it appears in one step."""
    path = folder / f"events.out.tfevents.{run.ended_at:.0f}.{_cell(run)}{_ENDING}"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as scratch:
        _write_events(run, scratch)
        (events,) = Path(scratch).iterdir()
        try:
            shutil.copyfile(events, unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _write_events(run: CellRun, folder: str) -> None:
    """Write phases, metrics, settings and failure of a run to a new event file in `folder`."""
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    with SummaryWriter(logdir=folder) as writer:
        for step, phase in enumerate(run.phases):
            for name, value in phase.items():
                writer.add_scalar(f"phase/{name}", value, step, walltime=run.ended_at)
        for name, value in run.metrics.items():
            writer.add_scalar(f"final/{name}", value, 0, walltime=run.ended_at)
        settings = {"method": run.method, "seed": run.seed} | run.params
        writer.add_text("settings", _table(settings | run.tags), 0, walltime=run.ended_at)
        if run.failure:
            writer.add_text("failure", _block(run.failure), 0, walltime=run.ended_at)
        # Leave out the first summary: it lists only this run's settings, TensorBoard merges all.
        _, start, end = hparams(settings, {})
        for summary in (start, end):
            writer.file_writer.add_summary(summary, 0, walltime=run.ended_at)


def _table(values: Mapping[str, object]) -> str:
    """Return a Markdown table. Names and values are escaped."""
    rows = [f"| {_escaped(name)} | {_escaped(str(value))} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))


def _block(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _remove(paths: Sequence[Path], root: Path) -> None:
    """Remove files, and folders in `root` that become empty."""
    for path in paths:
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == root or any(folder.iterdir()):
                break
            folder.rmdir()


def _cell(run: CellRun) -> str:
    return _safe(run.cell_id).replace(".", "_")


def _safe(name: str) -> str:
    """Return a name that is safe as one part of a path. Dots stay only between digits."""
    kept = re.sub(r"(?!(?<=\d)\.(?=\d))[^\w+=,() -]", "_", name).strip()
    short = os.fsencode(kept)[:_MOST_BYTES].decode(errors="ignore")
    return short or "_"
