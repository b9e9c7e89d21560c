"""Figures with their targets, as a table and as JSON."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lotus_ray.rows import machine_facts


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
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            value = work()
            if repeat:
                taken[name].append(value)
    return {name: statistics.median(values) for name, values in taken.items()}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    facts = machine_facts(torch.device("cuda" if torch.cuda.is_available() else "cpu"), workers=1)
    return {"cpus": len(os.sched_getaffinity(0)), **facts["resources"], **facts["versions"]}


def to_plain(figures: Mapping[str, Figure], rates: Mapping[str, float]) -> dict[str, Any]:
    """Return scoreboard id -> value, target, ok and n; with `machine`, and rates for context."""
    shown = {
        name: {"value": f.value, "target": f.target, "ok": f.ok, "n": f.n}
        for name, f in figures.items()
    }
    return {**shown, "machine": machine(), "rates": dict(rates)}


def to_table(figures: Mapping[str, Figure], rates: Mapping[str, float]) -> str:
    """Return the same for people."""
    lines = [f"{'':4}{'value':>8}{'target':>10}  {'':5}what"]
    for name, figure in figures.items():
        sign = "≥" if figure.at_least else "≤"
        met = "met" if figure.ok else "MISSED"
        lines.append(
            f"{name:4}{figure.value:8.2f}{sign:>4}{figure.target:6.2f}  {met:7}{figure.about}"
        )
    lines += [f"{'':4}{rate:8.0f}  {name}" for name, rate in rates.items()]
    found = machine()
    lines.append(f"{found['device']}, {found['cpus']} CPUs, torch {found['torch']}")
    return "\n".join(lines) + "\n"
