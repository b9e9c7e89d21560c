"""Run every check on one method, and measure what its sheet says."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from lotus_ray.base.errors import LotusRayError
from lotus_ray.bench.method_checks import checks
from lotus_ray.bench.method_checks.checkpoints import KeptWithin
from lotus_ray.bench.method_checks.problems import Plain, Small, problem, trained
from lotus_ray.bench.method_checks.sheet import Sheet, sheet_of
from lotus_ray.bench.method_checks.two_workers import (
    RESULT,
    two_differ_from_one,
    unlearn_with_two,
)
from lotus_ray.job.method_spec import build_method, describe
from lotus_ray.unlearning.checkpoint import PhaseRecord
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.micro_batch import MicroBatch
from lotus_ray.unlearning.problem import Problem

MOST_EPOCHS = 3
PART = 4  # images of a part of a step
_fresh = partial(problem, network=Small)


@dataclass(frozen=True)
class Result:
    """One check: what it looks at, and why the method does not pass it."""

    check: str
    reason: str  # empty if it passes

    @property
    def passes(self) -> bool:
        """True if nothing is wrong."""
        return not self.reason


def shortened(method: Method) -> Method:
    """Return a method with MOST_EPOCHS epochs at most, its inner one too."""
    names = {field.name for field in fields(method)}
    changes: dict[str, object] = {}
    if getattr(method, "epochs", 0) > MOST_EPOCHS and "epochs" in names:
        changes["epochs"] = MOST_EPOCHS
    inner = getattr(method, "inner", None)
    if isinstance(inner, Method):
        changes["inner"] = shortened(inner)
    return replace(method, **changes) if changes else method


def check_method(method: Method, imports: Sequence[str] = ()) -> tuple[list[Result], Sheet | None]:
    """Run all checks on a small problem, in float64 on the CPU.

    Args:
        method: with its hyper-parameters.
        imports: plug-ins of the command, for the processes of two workers.

    Returns:
        The checks in order, and the sheet; None if the method does not run at all.
    """
    method = shortened(method)
    with _one_thread():
        first = _first_run(method)
        if isinstance(first, str):
            return [Result("it runs to its end", first)], None
        runs = list(_checks(method, first, imports))
        results = [Result(name, _reason(check, method)) for name, check in runs]
    return results, sheet_of(method, first.stage, first.records, first.counted.counter)


@dataclass(frozen=True)
class _Run:
    """The first run of a method."""

    stage: Problem
    records: list[PhaseRecord]
    counted: checks.Counted


def _first_run(method: Method) -> _Run | str:
    """Run a method once; return why it does not run."""
    trained(Small)  # its forwards are not the method's
    try:
        with checks.counting_all(Small) as counted:
            stage = _fresh(counter=counted.counter)
            records = unlearn(method, stage)
    except Exception as error:  # the method may raise anything
        return _told(error, method)
    return _Run(stage, records, counted)


def _checks(
    method: Method, first: _Run, imports: Sequence[str]
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each check, and the check."""
    stage, before = first.stage, trained(Small)
    yield "it runs to its end", lambda: ""
    yield "plain values describe it", partial(_not_described, method)
    yield "weights change, and are finite", partial(checks.weights_stay, stage)
    yield "the original does not change", partial(checks.original_changes, stage, before)
    yield "the model is left in eval mode", partial(checks.still_trains, stage)
    yield "every forward is counted", lambda: first.counted.missed
    yield "the seed decides", partial(checks.seed_does_not_decide, method, _fresh, stage)
    yield (
        "a restart after any phase gives equal weights",
        partial(checks.restart_differs, method, _fresh),
    )
    yield (
        "a restart within a phase gives equal weights",
        partial(checks.restart_within_differs, method, _fresh, KeptWithin()),
    )
    yield "steps in parts give the weights of whole ones", partial(_parts_differ, method)
    yield "two workers give the weights of one", partial(_two_differ, method, imports)


def _not_described(method: Method) -> str:
    """Fail where a cell's spec could not hold the hyper-parameters."""
    description = json.loads(json.dumps(describe(method), allow_nan=False))
    return "" if build_method(description) == method else "it is not built again from its values"


def _parts_differ(method: Method) -> str:
    """Fail where steps in parts give other weights than whole steps."""
    if method.mixes_images:
        return ""  # its steps always run whole
    states = []
    for parts in (MicroBatch(), MicroBatch(PART, is_auto=False)):
        stage = problem(network=Plain)
        stage.micro_batch = parts
        unlearn(method, stage)
        states.append(stage.model.state_dict())
    differs = checks.states_differ(states[1], states[0], checks.IN_PARTS)
    if differs:
        return f"{differs}; see Batch.mean and Phase.split, or let mixes_images return True"
    return ""


def _two_differ(method: Method, imports: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        unlearn_with_two(describe(method), imports, folder)
        state, losses = torch.load(Path(folder, RESULT), weights_only=True)
    stage = _fresh()
    records = unlearn(method, stage)
    return two_differ_from_one(state, losses, stage, records)


def _reason(check: Callable[[], str], method: Method) -> str:
    try:
        return check()
    except Exception as error:  # the method may raise anything
        return _told(error, method)


def _told(error: Exception, method: Method) -> str:
    """Return an error on one line, with the line of the method's file at which it was raised."""
    if isinstance(error, LotusRayError):
        return f"{type(error).__name__}: {error.what}"
    lines = [line for line in str(error).splitlines() if line.strip()]
    file = getattr(sys.modules.get(type(method).__module__), "__file__", None)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    where = f" ({file}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {lines[-1] if lines else ''}{where}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: on networks this small, threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
