"""Gates: what the figures of an unlearned model must meet, fixed in the job before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

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
Reference = Literal["gold", "unseen"]
GOLD: Final = "gold"
UNSEEN: Final = "unseen"
RELEARN = "relearn"  # the area between two curves: see `lotus_ray.audit.relearn`
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

    @classmethod
    def read(cls, condition: str) -> Gate:
        """Return the gate whose text this is: see `__str__`. Raise ValueError if there is none."""
        parts = [part.partition(": ") for part in condition.strip("{}").split(", ")]
        given = {
            name: value if value in get_args(Model) else float(value) for name, _, value in parts
        }
        gate = cls.model_validate(given)
        if str(gate) != condition:
            raise ValueError(f"{condition!r} is no condition")
        return gate

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

    def around_zero(self) -> tuple[float, float]:
        """Return the lowest and highest area that pass: see `check_relearn`."""
        if self.within is not None:
            return -self.within, self.within
        return float("-inf"), float(self.at_most or 0.0)

    def __str__(self) -> str:
        """Return the condition as the job writes it."""
        given = self.model_dump(exclude_none=True)
        return "{" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}"


def check_names(gates: Any) -> Any:
    """Refuse a gate of an unknown metric, with the nearest name. For pydantic, before its types."""
    for name in gates if isinstance(gates, dict) else ():
        if name not in (*METRICS, RELEARN):
            raise PydanticCustomError(
                "gate",
                "there is no gate '{name}'",
                {"name": str(name), "nearest": nearest(str(name), (*METRICS, RELEARN))},
            )
    return gates


def check_relearn(gates: dict[str, Gate]) -> dict[str, Gate]:
    """Refuse a rule that an area between two curves cannot have. For pydantic, after its types."""
    gate = gates.get(RELEARN)
    if gate and not isinstance(gate.at_most, float) and gate.of not in (GOLD, UNSEEN):
        raise PydanticCustomError(
            "gate",
            "relearn is an area between two curves: it takes at_most with a number, or within "
            "with of: gold or unseen",
            {"nearest": "relearn: {at_most: .05}"},
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
    _relearn = field_validator("gates")(check_relearn)


class Area(NamedTuple):
    """An area between two relearn curves, and its interval."""

    value: float
    low: float
    high: float
    doubt: str = ""  # why it shows little


@dataclass(frozen=True)
class Figures:
    """Metrics by model: `unlearned`, `original`, `gold` if it ran, and `unseen`.

    Those of `unseen` are of the unlearned model too, on images that it never trained on.
    """

    by_model: Mapping[str, Mapping[str, float | None]]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of `unlearned`
    undefined: Mapping[str, str] = field(default_factory=dict)  # why, of `unlearned`
    relearn: Mapping[Reference | None, Area] = field(default_factory=dict)  # None: of the record

    def area(self, reference: Reference | None) -> Area:
        """Return the area beside a reference. Raise LookupError, which says why there is none."""
        if reference in self.relearn:
            return self.relearn[reference]
        if reference == GOLD and GOLD not in self.by_model:
            raise LookupError("there is no gold in this run")
        why = self.undefined.get(RELEARN)
        raise LookupError(f"the relearn curve is undefined: {why}" if why else "there is no curve")

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
        WARN: the value meets it, and its interval does not or it shows little; or some figure is
            undefined.
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
    """Apply one gate. The value of `relearn` is the area beside the model that it names."""
    value: float | None = None
    low, high, doubt = float("-inf"), float("inf"), ""
    try:
        if name == RELEARN:
            value, start, end, doubt = figures.area(None if gate.of == "original" else gate.of)
            low, high = gate.around_zero()
        else:
            value = figures.of("unlearned", name)
            start, end = figures.intervals.get(name, (value, value))
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
    status: Status = PASS
    why = "the condition is met"
    if not low <= value <= high:
        status, why = FAIL, "the condition is not met"
    elif start < low or end > high:
        status = WARN
        why = f"met, but too few images to be sure: the interval is {start:.3f} to {end:.3f}"
    elif doubt:
        status, why = WARN, f"met, but {doubt}"
    finite = {"lowest": low, "highest": high}
    return GateResult(
        gate=name,
        condition=str(gate),
        status=status,
        value=value,
        why=why,
        **{key: bound if abs(bound) < float("inf") else None for key, bound in finite.items()},
    )
