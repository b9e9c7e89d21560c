"""Start Ray here, or join the cluster that runs us; say no before anything runs that cannot fit."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from lotus_ray.cluster import ENVIRONMENT
from lotus_ray.errors import ClusterError
from lotus_ray.job import Resources

_HERE = {"address": "local", "include_dashboard": False}


@contextmanager
def session() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray on this machine for this command.

    Where Ray starts here it demands a token that only this user can read.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        ray.init(
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env={"env_vars": ENVIRONMENT},
            **({} if "RAY_ADDRESS" in os.environ else _HERE),
        )
    except SystemExit as ended:  # by Ray's own handler of SIGTERM
        if callable(on_sigterm):
            on_sigterm(signal.SIGTERM, None)
        raise KeyboardInterrupt from ended
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"Ray cannot be reached: {str(error).splitlines()[0]}",
            where=os.environ.get("RAY_ADDRESS", "this machine"),
            next_command="ray status",
        ) from error
    signal.signal(signal.SIGTERM, on_sigterm)  # ray.init installs its own
    try:
        yield
    finally:
        ray.shutdown()


def concurrent_lanes(resources: Resources) -> int:
    """Return how many lanes the cluster can run at once.

    Raises:
        ClusterError: not even one.
    """
    available = ray.cluster_resources()
    need = {
        "CPU": float(resources.workers * resources.cpus_per_worker),
        "GPU": resources.workers * resources.gpus_per_worker,
    }
    lanes = {
        name: int(available.get(name, 0.0) / amount) for name, amount in need.items() if amount
    }
    scarce = min(lanes, key=lambda name: lanes[name])
    if lanes[scarce] < 1:
        raise _too_small(scarce, need[scarce], available.get(scarce, 0.0))
    return lanes[scarce]


def check_this_machine(resources: Resources) -> None:
    """Raise ClusterError where Ray would start here and this machine is too small for one lane.

    Cheap, and before anything is written; `concurrent_lanes` is the full check.
    """
    if "RAY_ADDRESS" in os.environ:
        return
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    need = resources.workers * resources.cpus_per_worker
    if cpus is not None and cpus < need:
        raise _too_small("CPU", need, cpus)


def _too_small(name: str, need: float, available: float) -> ClusterError:
    return ClusterError(
        f"one lane needs {need:g} {name}s and there are {available:g}",
        where="resources.workers × resources."
        + ("cpus_per_worker" if name == "CPU" else "gpus_per_worker"),
        nearest=f"at most {available:g} {name}s a lane",
        next_command="lotus-ray grid JOB.yaml --set resources.workers=1 "
        + ("--set resources.cpus_per_worker=1" if name == "CPU" else "on a node with GPUs"),
    )
