"""Start Ray here, or join the cluster that runs us; say no before anything runs that cannot fit."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RayError

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import autoscaler, environment_of_workers
from lotus_ray.cluster.environment import ANOTHER_TOKEN, cluster_address, wrong_address, wrong_token
from lotus_ray.cluster.nodes import alive, fitting_trials, needs
from lotus_ray.job.schema.resources import Resources

_REFUSED = re.compile(r"AuthenticationError: (?:RPC error: )?(.*?)\.(?:\s|$)")
_HERE = {"address": "local", "include_dashboard": False}


@contextmanager
def session() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray on this machine for this command.

    Where Ray starts here it demands a token that only this user can read, whatever RAY_AUTH_MODE
    says: not all of its ports are on loopback, its control service listens on every address.

    Raises:
        ClusterError: Ray cannot be reached or started; in seconds where nothing listens there.
    """
    _check_environment()
    if not cluster_address():
        _demand_token()
        # No node of this machine is taken away; an actor a trial would ask for it all the time.
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    on_sigterm = signal.getsignal(signal.SIGTERM)
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Whatever `log_to_driver` says, Ray prints the last log lines of a node that died to stdout.
    ray._private.worker.print_to_stdstream = _say_nothing
    try:
        ray.init(
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env={"env_vars": environment_of_workers()},
            **({} if cluster_address() else _HERE),
        )
    except SystemExit as ended:  # by Ray's own handler of SIGTERM
        if callable(on_sigterm):
            on_sigterm(signal.SIGTERM, None)
        raise KeyboardInterrupt from ended
    except (RayError, ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise _unreachable(error) from error
    signal.signal(signal.SIGTERM, on_sigterm)  # ray.init installs its own
    try:
        yield
    finally:
        ray.shutdown()


def _demand_token() -> None:
    """Let a Ray that this process starts turn away who knows no token."""
    os.environ["RAY_AUTH_MODE"] = "token"
    Config.initialize("")  # Ray read the environment when it was imported


def _check_environment() -> None:
    if wrong := wrong_address() or wrong_token():
        raise wrong


def _unreachable(error: Exception) -> ClusterError:
    """Return what an error of `ray.init` means to a user."""
    address = cluster_address()
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if why := _refusal(error):
        whose = f"the cluster at {address}" if address else "Ray on this machine"
        what, command = f"{whose} wants another token: {why}", ANOTHER_TOKEN
    else:
        what, command = f"Ray cannot be reached: {said}", "ray status"
    return ClusterError(what, where=address or "this machine", next_command=command)


def _refusal(error: BaseException | None) -> str:
    """Return why a token was refused, if that lies behind an error: Ray may keep its text alone."""
    while error is not None:
        if isinstance(error, AuthenticationError):
            return str(error).removeprefix("RPC error: ").partition(". ")[0]
        if found := _REFUSED.search(str(error)):
            return found[1]
        error = error.__cause__ or error.__context__
    return ""


def _say_nothing(*_: object, **__: object) -> None:
    """Take the place of a function of Ray that prints."""


def concurrent_trials(resources: Resources, say: Callable[[str], None]) -> int:
    """Return how many trials to run at once: as many as fit, or as the job says.

    A cluster that this command joined may still be growing: there, as many as the job says wait for
    their nodes, or as many as the autoscaler can add nodes for, where that is known.

    Args:
        resources: what one trial needs.
        say: takes a line about what is waited for.

    Raises:
        ClusterError: not even one trial fits, and no node will be added that changes it.
    """
    trials = fitting_trials(resources)
    if cluster_address():
        types = autoscaler.node_types()
        if types is not None:
            trials = max(trials, autoscaler.trials_to_come(resources, types))
        elif not trials:
            autoscaler.wait_for_one_trial(resources, say)
            trials = max(fitting_trials(resources), 1)
        return resources.trials_at_once or trials
    if trials:
        return min(resources.trials_at_once or trials, trials)
    need, nodes = needs(resources), alive()
    largest = {name: max(node.get(name, 0.0) for node in nodes) for name in need}
    scarce = min(need, key=lambda name: largest[name] / (need[name] or 1e-9))
    raise _too_small(scarce, resources, largest[scarce])


def check_this_machine(resources: Resources) -> None:
    """Raise ClusterError where no trial can run, as far as this machine can tell at once.

    Nothing listens at RAY_ADDRESS; or Ray would start here, and this machine is too small for one
    trial. Cheap, and before anything is written; `concurrent_lanes` is the full check.
    """
    _check_environment()
    if cluster_address():
        return
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cpus is not None and cpus < resources.least_workers * resources.cpus_per_worker:
        raise _too_small("CPU", resources, cpus)


def _too_small(name: str, resources: Resources, largest: float) -> ClusterError:
    field = "cpus_per_worker" if name == "CPU" else "gpus_per_worker"
    need = getattr(resources, field)
    workers = "workers" if resources.min_workers is None else "min_workers"
    one = "--set resources.workers=1" + (
        "" if resources.min_workers is None else " --set resources.min_workers=1"
    )
    return ClusterError(
        f"one worker needs {need:g} {name}s and one trial {resources.workers_text} workers; "
        f"the largest node has {largest:g} {name}s",
        where=f"resources.{workers} × resources.{field}",
        nearest=f"at most {largest:g} {name}s a trial",
        next_command=f"lotus-ray grid JOB.yaml {one} --set resources.{field}="
        + ("1" if name == "CPU" else "0"),
    )
