"""The sheet of a method: what it says of itself, and what it did on the small problem."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lotus_ray.job.method_spec import describe
from lotus_ray.unlearning.checkpoint import PhaseRecord
from lotus_ray.unlearning.forward_counter import (
    BACKWARDS,
    STUDENT,
    TEACHER,
    TEACHER_BACKWARDS,
    ForwardCounter,
)
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

_NOT_HYPER_PARAMETERS = ("name", "version", "code")


@dataclass(frozen=True)
class Sheet:
    """What is known of a method."""

    name: str
    label: str
    about: str  # first line of its docstring
    source: str  # the paper, as its docstring says it after `Source:`
    code: str  # digest of a plug-in's source; empty if it is built in
    hyper_parameters: dict[str, Any]
    mixes_images: bool
    weight_copies: float
    phases: int
    steps: int
    forwards_per_step: float  # images, through the model and its teachers
    backwards_per_step: float
    forget_loss: tuple[float, float]  # of the original, and after
    retain_accuracy: tuple[float, float]

    def to_plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return it for a terminal."""
        values = ", ".join(f"{name}={value}" for name, value in self.hyper_parameters.items())
        lines = {
            "method": f"{self.name}, in reports {self.label}",
            "about": self.about,
            "source": self.source or "none in its docstring: write `Source: AUTHORS YEAR, URL.`",
            "code": self.code[:12] or "built in",
            "settings": values or "none",
            "steps": f"{self.steps} in {self.phases} phases, on a small problem",
            "forwards": f"{self.forwards_per_step:.1f} images a step, "
            f"and {self.backwards_per_step:.1f} backward; batches of 16",
            "memory": f"{self.weight_copies:g} × the weights, beside model, original and gradients",
            "in parts": "no: it mixes the images of a step" if self.mixes_images else "yes",
            "forget loss": "{:.3f}, of the original {:.3f}".format(*self.forget_loss[::-1]),
            "retain acc.": "{:.3f}, of the original {:.3f}".format(*self.retain_accuracy[::-1]),
        }
        return "\n".join(f"{name:11}  {text}" for name, text in lines.items())


def sheet_of(
    method: Method, stage: Problem, records: Sequence[PhaseRecord], counter: ForwardCounter
) -> Sheet:
    """Return the sheet of a method.

    Args:
        method: that ran.
        stage: after the run.
        records: of the run.
        counter: of the images of the run.
    """
    steps = sum(len(record.losses) for record in records)
    images = counter.images
    text = " ".join((inspect.getdoc(type(method)) or "").split())
    source = re.search(r"Source:(.*?)(?:Deviation:|$)", text)
    values = describe(method)
    return Sheet(
        name=method.name,
        label=method.title,
        about=(inspect.getdoc(type(method)) or "").partition("\n")[0],
        source=source[1].strip() if source else "",
        code=method.code,
        hyper_parameters={k: v for k, v in values.items() if k not in _NOT_HYPER_PARAMETERS},
        mixes_images=method.mixes_images,
        weight_copies=method.weight_copies,
        phases=len(records),
        steps=steps,
        forwards_per_step=(images[STUDENT] + images[TEACHER]) / max(steps, 1),
        backwards_per_step=(images[BACKWARDS] + images[TEACHER_BACKWARDS]) / max(steps, 1),
        forget_loss=(_forget_loss(stage, stage.original), _forget_loss(stage, stage.model)),
        retain_accuracy=(
            stage.accuracy(stage.original, stage.retain),
            stage.accuracy(stage.model, stage.retain),
        ),
    )


def _forget_loss(stage: Problem, model: torch.nn.Module) -> float:
    with torch.no_grad():
        shares = [b.mean(cross_entropy(model(b.images), b.labels)) for b in stage.forget]
    return float(sum(shares))
