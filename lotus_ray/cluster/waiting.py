"""Wait for nodes: for the first place before a grid starts, and for others while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import ray

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import autoscaler
from lotus_ray.cluster.autoscaler import Report
from lotus_ray.cluster.misfit import cannot_fit
from lotus_ray.cluster.nodes import fitting_trials, live_nodes, max_workers, need_text, needs
from lotus_ray.job.schema.resources import Resources

POLL_SECONDS = 2.0
INFEASIBLE_SECONDS = 30.0  # an autoscaler at its limit reports infeasible requests for a moment
NO_AUTOSCALER_SECONDS = 600.0  # for somebody to add a node to a cluster without an autoscaler
ALONE = "no node is large enough, and this cluster adds none by itself"


class PlacementGroup(Protocol):
    """The part of Ray's placement groups that we use."""

    id: Any  # with hex()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait at most so many seconds; return True if the group is placed."""


def wait_for_first_trial(resources: Resources, say: Callable[[str], None]) -> None:
    """Ask for the nodes of one trial, and wait until they are there.

    Args:
        resources: of one trial.
        say: prints a line.

    Raises:
        ClusterError: the autoscaler can add no nodes that fit, or nobody adds one.
    """
    bundle = {name: amount for name, amount in needs(resources).items() if amount}
    group = ray.util.placement_group([bundle] * resources.least_workers, strategy="PACK")
    try:
        wait_until_placed(group, resources, say, autoscaler.read_report)
    finally:
        ray.util.remove_placement_group(group)


def wait_until_placed(
    group: PlacementGroup,
    resources: Resources,
    say: Callable[[str], None],
    read_report: Callable[[], Report],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until a placement group is placed, and say why it is not.

    Args:
        group: of one trial.
        resources: of one trial.
        say: prints a line.
        read_report: reads the autoscaler's report.
        clock: returns seconds.

    Raises:
        ClusterError: the autoscaler reports for INFEASIBLE_SECONDS that it can add nothing that
            fits, or there is none and nobody adds a node in NO_AUTOSCALER_SECONDS.
    """
    start = last_feasible = clock()
    shown: set[str] = set()
    minutes = NO_AUTOSCALER_SECONDS / 60
    if group.wait(POLL_SECONDS):
        return
    say(f"waiting for nodes for the first place: {need_text(resources)}")
    while not group.wait(POLL_SECONDS):
        report = read_report()
        for failure in report.failures:
            if failure not in shown:
                shown.add(failure)
                say(f"the autoscaler could not add a node: {failure}")
        now = clock()
        if not any(request.startswith(group.id.hex()) for request in report.infeasible):
            last_feasible = now
        if now - last_feasible >= INFEASIBLE_SECONDS:
            raise _never_fits(resources, "its autoscaler can add none")
        if not report.exists and now - start >= NO_AUTOSCALER_SECONDS:
            raise _never_fits(resources, f"in {minutes:.0f} min nobody added one")
        if not report.exists and now - start >= INFEASIBLE_SECONDS and ALONE not in shown:
            shown.add(ALONE)
            say(f"{ALONE}: the command waits {minutes:.0f} min for somebody to add one")


def _never_fits(resources: Resources, why: str) -> ClusterError:
    nodes = live_nodes()
    return cannot_fit(resources, nodes, max_workers(resources, nodes), why)


@contextmanager
def say_what_is_missing(
    places: Callable[[], int],
    resources: Resources,
    say: Callable[[str], None],
    cells_left: Callable[[], int],
    poll_seconds: float = 1.0,
) -> Iterator[None]:
    """While places wait for nodes, print how many have theirs, whenever that number changes.

    Args:
        places: returns how many have started and not ended, with nodes or without.
        resources: of one place.
        say: prints a line.
        cells_left: returns how many cells have no row.
        poll_seconds: between two checks of the nodes.
    """
    stop = threading.Event()

    def watch() -> None:
        last = ""
        while not stop.is_set() and (left := cells_left()):
            wanted = min(places(), left)  # now: places start, and end
            fit = fitting_trials(resources)
            line = _waiting(fit, wanted, resources) if fit < wanted else ""
            if line != last:
                say(line or "all places have their nodes")
            last = line
            stop.wait(poll_seconds)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _waiting(fit: int, trials: int, resources: Resources) -> str:
    return f"waiting for nodes: {fit} of {trials} places have theirs ({need_text(resources)})"
