"""Scores with their targets, as a table and as JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from lotus_ray.base.machine import machine_facts


@dataclass(frozen=True)
class Score:
    """One measured number and its target."""

    id: str  # its key in the JSON of earlier releases
    about: str  # its meaning, with the unit
    value: float
    target: float
    at_least: bool  # True if values at or above the target are good, False if at or below
    n: int  # number of measurements; the value is their median

    @property
    def ok(self) -> bool:
        """True if the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass
class Measurements:
    """Everything that a benchmark measured."""

    scores: dict[str, Score] = field(default_factory=dict)  # by name
    rates: dict[str, float] = field(default_factory=dict)  # for context, by name with unit
    notes: list[str] = field(default_factory=list)  # such as measurements left out, and why

    def add(self, other: Self) -> None:
        """Add the measurements of another benchmark."""
        self.scores |= other.scores
        self.rates |= other.rates
        self.notes += other.notes


def machine() -> dict[str, Any]:
    """Return facts about this machine: device, CPUs, versions."""
    facts = machine_facts(torch.device("cuda" if torch.cuda.is_available() else "cpu"), workers=1)
    return {"cpus": len(os.sched_getaffinity(0)), **facts["resources"], **facts["versions"]}


def to_json(measured: Measurements) -> dict[str, Any]:
    """Return a JSON object: each score by its name and, for one release, by its old key.

    Its other keys are `machine`, `rates` and, if there are any, `notes`.
    """
    named = {
        name: {"id": s.id, "value": s.value, "target": s.target, "ok": s.ok, "n": s.n}
        for name, s in measured.scores.items()
    }
    by_old_key = {score.id: named[name] for name, score in measured.scores.items()}
    notes = {"notes": list(measured.notes)} if measured.notes else {}
    return {**named, **by_old_key, "machine": machine(), "rates": dict(measured.rates), **notes}


def old_keys_note(measured: Measurements) -> str:
    """Return one line with the new name of each old key of the JSON."""
    pairs = ", ".join(f"{score.id} is {name}" for name, score in measured.scores.items())
    return f"note: old keys, which end with the next release: {pairs}"


def to_table(measured: Measurements) -> str:
    """Return the measurements as text for people."""
    width = max([4, *map(len, measured.scores)])
    lines = [f"{'':{width}}{'value':>9}{'target':>10}  {'':8}score"]
    for name, score in measured.scores.items():
        sign = "≥" if score.at_least else "≤"
        met = "met" if score.ok else "MISSED"
        lines.append(
            f"{name:{width}}{score.value:9.3f}{sign:>4}{score.target:6.2f}  {met:8}{score.about}"
        )
    lines += [f"{'':{width}}{_short(rate):>9}  {name}" for name, rate in measured.rates.items()]
    lines += [f"note: {note}" for note in measured.notes]
    facts = machine()
    lines.append(f"{facts['device']}, {facts['cpus']} CPUs, torch {facts['torch']}")
    return "\n".join(lines) + "\n"


def _short(rate: float) -> str:
    return f"{rate:.0f}" if abs(rate) >= 100 else f"{rate:.3g}"
