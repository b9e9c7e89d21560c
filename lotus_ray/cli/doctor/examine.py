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


def checks(store: str | None, job: Path | None) -> list[Check]:
    """Return the checks of this machine.

    Args:
        store: the store to check; default the job's.
        job: gives the store, and the space for decoded images.

    Raises:
        JobError: the job cannot be read.
    """
    memory_gb, scratch_folder = DECODED_MEMORY_GB, None
    if job is not None:
        from lotus_ray.job.load import load_job

        loaded = load_job(job).job
        store = store or loaded.store
        memory_gb, scratch_folder = (
            loaded.resources.decoded_memory_gb,
            loaded.resources.scratch,
        )
    return [
        versions,
        devices,
        lambda: shared_memory(memory_gb),
        lambda: scratch(scratch_folder),
        lambda: storage(store),
        reachability,
        exposure,
    ]


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run checks, one after another."""
    return [check() for check in checks]
