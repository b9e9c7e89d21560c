"""All checks, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lotus_ray.cli.doctor.exposure import exposure
from lotus_ray.cli.doctor.finding import Check, Finding
from lotus_ray.cli.doctor.machine import devices, scratch, shared_memory, versions
from lotus_ray.cli.doctor.ray_address import reachability
from lotus_ray.cli.doctor.storage import storage

DECODED_MEMORY_GB = 8.0  # the default of a job


def checks(store: str | None, job: Path | None, imports: Sequence[str] = ()) -> list[Check]:
    """Return the checks of this machine.

    Args:
        store: the store to check; default the job's.
        job: gives the store, and the space for decoded images; checked as `grid` would.
        imports: plug-ins of the job.

    Raises:
        JobError: the job cannot be read.
    """
    memory_gb, scratch_folder = DECODED_MEMORY_GB, None
    job_check: list[Check] = []
    if job is not None:
        from lotus_ray.cli.doctor.job import job_runs
        from lotus_ray.job.load import load_job

        loaded = load_job(job, imports=imports)
        resources = loaded.job.resources
        store = store or loaded.job.store
        memory_gb, scratch_folder = resources.decoded_memory_gb, resources.scratch
        job_check = [lambda: job_runs(loaded)]
    return [
        versions,
        devices,
        lambda: shared_memory(memory_gb),
        lambda: scratch(scratch_folder),
        lambda: storage(store),
        reachability,
        exposure,
        *job_check,
    ]


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run checks, one after another."""
    return [check() for check in checks]
