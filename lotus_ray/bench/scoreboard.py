"""Figures with their targets, as a table and as JSON."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lotus_ray.base.machine import machine_facts


@dataclass(frozen=True)
class Figure:
    """A ratio, what it is of, and where it should be: at least or at most the target."""

    about: str
    value: float
    target: float
    at_least: bool
    n: int  # measurements that it is the median of

    @property
    def ok(self) -> bool:
        """Return whether the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(repeats: int, **works: Callable[[], float]) -> dict[str, float]:
    """Run some measurements in turn, once to warm up and then `repeats` times; return medians."""
    for work in works.values():
        work()
    return medians_of_starts(repeats, **works)


def medians_of_starts(repeats: int, **works: Callable[[], float]) -> dict[str, float]:
    """Do the same without a warm-up, for what begins in processes of its own each time."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(work())
    return {name: statistics.median(values) for name, values in taken.items()}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    facts = machine_facts(torch.device("cuda" if torch.cuda.is_available() else "cpu"), workers=1)
    return {"cpus": len(os.sched_getaffinity(0)), **facts["resources"], **facts["versions"]}


def to_plain(
    figures: Mapping[str, Figure], rates: Mapping[str, float], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Return scoreboard id -> value, target, ok and n; with `machine`, and rates for context.

    `notes` say what was not measured and why; without any there is no such key.
    """
    shown: dict[str, Any] = {
        name: {"value": f.value, "target": f.target, "ok": f.ok, "n": f.n}
        for name, f in figures.items()
    }
    said = {"notes": list(notes)} if notes else {}
    return {**shown, "machine": machine(), "rates": dict(rates), **said}


def to_table(
    figures: Mapping[str, Figure], rates: Mapping[str, float], notes: Sequence[str] = ()
) -> str:
    """Return the same for people."""
    width = max([4, *map(len, figures)])
    lines = [f"{'':{width}}{'value':>9}{'target':>10}  {'':5}what"]
    for name, figure in figures.items():
        sign = "≥" if figure.at_least else "≤"
        met = "met" if figure.ok else "MISSED"
        lines.append(
            f"{name:{width}}{figure.value:9.3f}{sign:>4}{figure.target:6.2f}  {met:7}{figure.about}"
        )
    lines += [f"{'':{width}}{_short(rate):>9}  {name}" for name, rate in rates.items()]
    lines += [f"note: {note}" for note in notes]
    found = machine()
    lines.append(f"{found['device']}, {found['cpus']} CPUs, torch {found['torch']}")
    return "\n".join(lines) + "\n"


def _short(rate: float) -> str:
    return f"{rate:.0f}" if abs(rate) >= 100 else f"{rate:.3g}"
