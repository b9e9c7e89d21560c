"""How many trials the nodes of a cluster can run at once, and what a grid waits for meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray

from lotus_ray.job.schema.resources import Resources

POLL_SECONDS = 1.0


def needs(resources: Resources) -> dict[str, float]:
    """Return what one worker takes from its node."""
    return {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}


def alive() -> list[dict[str, float]]:
    """Return what each node has that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def fitting_trials(resources: Resources) -> int:
    """Return how many trials fit on the nodes that are there now."""
    need = needs(resources)
    return resources.trials_on(sum(workers_on(node, need) for node in alive()))


def workers_on(node: Mapping[str, float], need: Mapping[str, float]) -> int:
    """Return how many workers a node holds. A part of a GPU never offsets two of them."""
    return min(_times(node.get(name, 0.0), amount) for name, amount in need.items() if amount)


def _times(have: float, need: float) -> int:
    """Return how often a need fits, to Ray's precision of 1/10,000."""
    if need < 1:
        return int(have) * int(1 / need + 1e-4)
    return int(have / need + 1e-4)


@contextmanager
def say_what_is_missing(
    trials: int, resources: Resources, say: Callable[[str], None], groups_left: Callable[[], int]
) -> Iterator[None]:
    """Say in one line how many of some trials have their nodes, whenever that changes.

    Args:
        trials: how many are to run at once.
        resources: what one trial needs.
        say: takes a line; nothing is said while no trial has to wait.
        lanes_left: returns how many are not finished.
    """
    stop = threading.Event()

    def watch() -> None:
        said = ""
        while wanted := min(trials, groups_left()):
            fit = fitting_trials(resources)
            line = _waiting(fit, wanted, resources) if fit < wanted else ""
            if line != said:
                say(line or "all trials have their nodes")
            said = line
            if stop.wait(POLL_SECONDS):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def need_text(resources: Resources) -> str:
    """Return what each worker of a trial needs, for messages."""
    several = resources.workers > 1
    workers = f"each of {resources.workers_text} workers" if several else "a worker"
    return f"{workers} needs {resources.cpus_per_worker} CPUs, {resources.gpus_per_worker:g} GPUs"


def _waiting(fit: int, trials: int, resources: Resources) -> str:
    return f"waiting for nodes: {fit} of {trials} trials have theirs ({need_text(resources)})"
