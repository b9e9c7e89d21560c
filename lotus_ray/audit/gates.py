"""Gates: what the figures of an unlearned model must meet, fixed in the job before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lotus_ray.base.errors import nearest

# The metrics of a row. A test holds them beside those that `lotus_ray.metrics.summary` computes.
_SCORES = ("entropy", "loss", "confidence", "margin")
METRICS = (
    *(f"{role}_accuracy" for role in ("forget", "retain", "unseen", "test")),
    *("mia_accuracy", "rf_jsd", "rf_jsd_compat", "rf_jsd_classes", "zrf"),
    *(f"mia_{figure}_{score}" for score in _SCORES for figure in ("auc", "tpr_1pct", "tpr_01pct")),
)
PASS: Final = "PASS"
WARN: Final = "WARN"
FAIL: Final = "FAIL"
Status = Literal["PASS", "WARN", "FAIL"]
Outcome = Literal["passed", "passed with warnings", "failed", "no gates"]
Model = Literal["original", "gold", "unseen"]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]  # as every figure here: 5 is not 5 %
Bound = Share | Model


class Gate(BaseModel):
    """A condition on one metric of the unlearned model: exactly one of the first four keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    at_most: Bound | None = Field(None, description="a number, or the metric of: original, gold")
    at_least: Bound | None = Field(None, description="a number, or the metric of: original, gold")
    drop_at_most: Share | None = Field(None, description="below the original's value")
    within: Share | None = Field(None, description="distance from the value of `of`")
    of: Model | None = Field(None, description="for within: original, gold, unseen")

    @model_validator(mode="after")
    def _exactly_one(self) -> Gate:
        rules = (self.at_most, self.at_least, self.drop_at_most, self.within)
        if sum(rule is not None for rule in rules) != 1:
            raise ValueError("give exactly one of at_most, at_least, drop_at_most, within")
        if (self.within is None) != (self.of is None):
            raise ValueError("within goes with of: original, gold or unseen")
        return self

    def limits(self, figures: Figures, metric: str) -> tuple[float, float]:
        """Return the lowest and highest value that pass, either of them infinite.

        Raises:
            LookupError: a model that the gate compares with has no such figure. The text says so.
        """
        if self.drop_at_most is not None:
            return figures.of("original", metric) - self.drop_at_most, float("inf")
        if self.within is not None:
            middle = figures.of(self.of or "", metric)
            return middle - self.within, middle + self.within
        bound = self.at_most if self.at_most is not None else self.at_least
        value = figures.of(bound, metric) if isinstance(bound, str) else float(bound or 0.0)
        return (float("-inf"), value) if self.at_most is not None else (value, float("inf"))

    def __str__(self) -> str:
        """Return the condition as the job writes it."""
        given = self.model_dump(exclude_none=True)
        return "{" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}"


def check_names(gates: Any) -> Any:
    """Refuse a gate of an unknown metric, with the nearest name. For pydantic, before its types."""
    for name in gates if isinstance(gates, dict) else ():
        if name == "relearn":
            raise PydanticCustomError(
                "gate",
                "relearn is no gate: whether a little more training brings images back is not "
                "measured",
                {"nearest": ""},
            )
        if name not in METRICS:
            raise PydanticCustomError(
                "gate",
                "there is no gate '{name}'",
                {"name": str(name), "nearest": nearest(str(name), METRICS)},
            )
    return gates


class Gated(BaseModel):
    """What a job with gates has, to be inherited."""

    gates: dict[str, Gate] = Field(
        default_factory=dict,
        description="of `lotus-ray forget`, by metric: {drop_at_most: .01}, {at_most: original}, "
        "{at_least: .9}, {within: .02, of: unseen}",
    )
    _names = field_validator("gates", mode="before")(check_names)


@dataclass(frozen=True)
class Figures:
    """Metrics by model: `unlearned`, `original`, `gold` if it ran, and `unseen`.

    Those of `unseen` are of the unlearned model too, on images that it never trained on.
    """

    by_model: Mapping[str, Mapping[str, float | None]]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of `unlearned`
    undefined: Mapping[str, str] = field(default_factory=dict)  # why, of `unlearned`

    def of(self, model: str, metric: str) -> float:
        """Return a figure. Raise LookupError, which says why, if there is none."""
        if model not in self.by_model:
            raise LookupError(f"there is no {model} in this run")
        value = self.by_model[model].get(metric)
        if value is None:
            why = self.undefined.get(metric) if model == "unlearned" else None
            raise LookupError(f"{metric} of {model} is undefined" + (f": {why}" if why else ""))
        return value


class GateResult(BaseModel):
    """How one gate ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: str
    condition: str
    status: Status
    value: float | None
    lowest: float | None  # that passes
    highest: float | None
    why: str


def apply_gates(gates: Mapping[str, Gate], figures: Figures) -> list[GateResult]:
    """Apply gates to figures.

    Returns:
        PASS: the value meets the condition, and so does its whole interval where it has one.
        WARN: the value meets it, and its interval does not; or some figure is undefined.
        FAIL: the value does not meet it.
    """
    return [_result(name, gate, figures) for name, gate in gates.items()]


def outcome(results: Sequence[GateResult]) -> Outcome:
    """Return what some gates say together."""
    statuses = {result.status for result in results}
    if not statuses:
        return "no gates"
    if FAIL in statuses:
        return "failed"
    return "passed with warnings" if WARN in statuses else "passed"


def _result(name: str, gate: Gate, figures: Figures) -> GateResult:
    value: float | None = None
    low, high = float("-inf"), float("inf")
    try:
        value = figures.of("unlearned", name)
        low, high = gate.limits(figures, name)
    except LookupError as error:
        return GateResult(
            gate=name,
            condition=str(gate),
            status=WARN,
            value=value,
            lowest=None,
            highest=None,
            why=str(error.args[0]),
        )
    start, end = figures.intervals.get(name, (value, value))
    status: Status = PASS
    why = "the condition is met"
    if not low <= value <= high:
        status, why = FAIL, "the condition is not met"
    elif start < low or end > high:
        status = WARN
        why = f"met, but too few images to be sure: the interval is {start:.3f} to {end:.3f}"
    finite = {"lowest": low, "highest": high}
    return GateResult(
        gate=name,
        condition=str(gate),
        status=status,
        value=value,
        why=why,
        **{key: bound if abs(bound) < float("inf") else None for key, bound in finite.items()},
    )
