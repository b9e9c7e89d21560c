"""Check a job as `grid` would, before anything runs."""

from __future__ import annotations

from lotus_ray.base.errors import LotusRayError
from lotus_ray.cli.doctor.finding import OK, PROBLEM, Finding
from lotus_ray.job.datasets import check_here
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.preview import preview


def job_runs(loaded: LoadedJob) -> Finding:
    """Report whether a job's data are here, one trial fits, and its cells can be planned."""
    try:
        for dataset in loaded.job.grid.datasets:
            check_here(dataset)
        _check_resources(loaded)
        cells = len(preview(loaded).planned.cells)
    except LotusRayError as error:
        where = f" ({error.where})" if error.where else ""
        command = error.next_command or f"lotus-ray validate {loaded.document.file}"
        return Finding("job", PROBLEM, f"{error.what}{where}", command, error.exit_code)
    return Finding("job", OK, f"{loaded.document.file}: {cells} cells can run")


def _check_resources(loaded: LoadedJob) -> None:
    """Raise ClusterError if this machine, where it runs the job itself, is too small."""
    import torch

    from lotus_ray.cluster.capacity import check_this_machine

    check_this_machine(loaded.job.resources, torch.cuda.device_count())
