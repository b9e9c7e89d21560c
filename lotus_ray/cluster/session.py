"""Start Ray on this machine, or join the cluster at RAY_ADDRESS."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import environment_of_workers, ray_private
from lotus_ray.cluster.environment import ANOTHER_TOKEN, check_environment, cluster_address
from lotus_ray.cluster.repeats import repeats_once

_REFUSED = re.compile(r"AuthenticationError: (?:RPC error: )?(.*?)\.(?:\s|$)")
_HERE = {"address": "local", "include_dashboard": False}
_NO_DASHBOARD = (
    "note: this cluster has no dashboard. Ray Train asks it whether a lost place still needs its "
    "CPUs and GPUs, and frees them only then. Start the head without --include-dashboard=false"
)


def _there() -> dict[str, Any]:
    """Return the options for a cluster, whose processes do not have this one's environment.

    Processes that start here have it. They need no runtime environment of their own, for which Ray
    would start other processes than those that wait for work already.
    """
    return {"runtime_env": {"env_vars": environment_of_workers()}}


@contextmanager
def session() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray on this machine for this command.

    A Ray that starts here always demands a token, which only this user can read, because its
    control service listens on every address of the machine. RAY_AUTH_MODE does not change that.

    Raises:
        ClusterError: Ray cannot be reached or started. If nothing listens, this takes seconds.
    """
    check_environment()
    if not cluster_address():
        os.environ["RAY_AUTH_MODE"] = "token"
        ray_private.demand_token()
        # The preemption watcher, one actor per trial, is not needed: nobody takes this machine.
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    on_sigterm = signal.getsignal(signal.SIGTERM)
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray_private.print_no_errors()
    try:
        # A Ray that starts here has processes that would hold the pipe.
        with repeats_once() if cluster_address() else nullcontext():
            joined = ray.init(
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **(_there() if cluster_address() else _HERE),
            )
    except SystemExit as ended:  # by Ray's own handler of SIGTERM
        if callable(on_sigterm):
            on_sigterm(signal.SIGTERM, None)
        raise KeyboardInterrupt from ended
    except Exception as error:  # Ray raises a bare one if its node is slow to start
        raise _unreachable(error) from error
    signal.signal(signal.SIGTERM, on_sigterm)  # ray.init installs its own
    if cluster_address() and not joined.dashboard_url:
        print(_NO_DASHBOARD, file=sys.stderr, flush=True)
    try:
        yield
    finally:
        ray.shutdown()


def _unreachable(error: Exception) -> ClusterError:
    """Return the error for a failure of `ray.init`."""
    address = cluster_address()
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    if why := _token_refusal(error):
        cluster = f"the cluster at RAY_ADDRESS={address}" if address else "Ray on this machine"
        what, command = f"{cluster} demands another token: {why}", ANOTHER_TOKEN
    elif address:
        what, command = f"Ray cannot be reached: {first_line}", "ray status"
    else:
        what = f"Ray cannot be started: {first_line}"
        command = "lotus-ray grid JOB.yaml --local   (or, if the machine is busy, the same again)"
    return ClusterError(what, where=address or "this machine", next_command=command)


def _token_refusal(error: BaseException | None) -> str:
    """Return why Ray refused the token, or an empty text if the error has another cause.

    Ray may keep only the text of the AuthenticationError.
    """
    while error is not None:
        if isinstance(error, AuthenticationError):
            return str(error).removeprefix("RPC error: ").partition(". ")[0]
        if match := _REFUSED.search(str(error)):
            return match[1]
        error = error.__cause__ or error.__context__
    return ""
