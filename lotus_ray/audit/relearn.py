"""The relearn curve of a record: does a little training on other images bring forgotten ones back?

The figure is an area: the mean over the steps of the forget accuracy, less that of gold, or of new
images of the same kinds where there is no gold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lotus_ray.audit.evidence import RETRAINED, wilson
from lotus_ray.audit.gates import (
    GOLD,
    RELEARN,
    UNSEEN,
    Area,
    Figures,
    Gate,
    Gated,
    GateResult,
    Reference,
    apply_gates,
)
from lotus_ray.audit.predicate import Predicate, RelearnCurve, RelearnModel, Value
from lotus_ray.metrics.relearn import mean_over_steps

_SETTINGS = ("images", "forget_images", "batch_size", "lr", "unseen_images", "unseen_effective")
ROUNDING = 1e-9
RUINED = "the copy lost half of what it recognised of new images, so its curve shows little"


def relearn_curve(
    unlearned: Mapping[str, Any] | None, gold: Mapping[str, Any] | None
) -> RelearnCurve | None:
    """Return the curve of a record from those of rows; None if there is none.

    Args:
        unlearned: `Row.relearn` of the unlearned model.
        gold: that of gold, if it ran. It has the same images.
    """
    if unlearned is None or "undefined" in unlearned:
        return None
    kept: dict[str, Any] = {name: unlearned.get(name) for name in _SETTINGS}
    curve = RelearnCurve(
        **kept,
        steps=unlearned["steps"],
        unlearned=_model(unlearned),
        gold=None if gold is None or "undefined" in gold else _model(gold),
        against=None,
        area=None,
    )
    against = default_reference(curve)
    area = areas(curve)[against] if against else None
    return curve.model_copy(update={"against": against, "area": area})


def _model(row: Mapping[str, Any]) -> RelearnModel:
    return RelearnModel(forget=row["forget"], unseen=row.get("unseen"))


def default_reference(curve: RelearnCurve) -> Reference | None:
    """Return what a curve is compared with: gold, else unseen images, else nothing."""
    if curve.gold:
        return GOLD
    return UNSEEN if curve.unlearned.unseen else None


def areas(curve: RelearnCurve) -> dict[Reference, Value]:
    """Return the area between the curve and each reference that there is, with its interval.

    Means over the steps are taken for shares of images, which makes the intervals too wide rather
    than too narrow. That of the difference is Newcombe's.

    Source: Newcombe 1998, method 10, by `wilson`. Deviation: gold is measured on the same images,
    and they are taken for others.
    """
    mean = mean_over_steps(curve.steps, curve.unlearned.forget)
    result: dict[Reference, Value] = {}
    if curve.gold:
        other = mean_over_steps(curve.steps, curve.gold.forget)
        result[GOLD] = _difference(mean, curve.forget_images, other, curve.forget_images)
    if curve.unlearned.unseen and curve.unseen_effective:
        other = mean_over_steps(curve.steps, curve.unlearned.unseen)
        result[UNSEEN] = _difference(mean, curve.forget_images, other, curve.unseen_effective)
    return result


def for_gates(curve: RelearnCurve | None) -> dict[Reference | None, Area]:
    """Return value, low and high of each area; under None that of the record."""
    if curve is None:
        return {}
    found: list[tuple[Reference | None, Value | None]] = [*areas(curve).items(), (None, curve.area)]
    return {
        name: Area(each.value, each.low, each.high, RUINED if is_ruined(curve) else "")
        for name, each in found
        if each and each.low is not None and each.high is not None
    }


def _difference(one: float, n_one: float, other: float, n_other: float) -> Value:
    """Return the difference of two shares, with its interval."""
    low, high = wilson(one * n_one, n_one)
    other_low, other_high = wilson(other * n_other, n_other)
    value = one - other
    below = ((one - low) ** 2 + (other_high - other) ** 2) ** 0.5
    above = ((high - one) ** 2 + (other - other_low) ** 2) ** 0.5
    return Value(
        value=value, low=max(value - below, -1.0), high=min(value + above, 1.0), n=round(n_one)
    )


def is_hidden(curve: RelearnCurve | None) -> bool:
    """Return True if forgotten images came back, beyond chance, and farther than the reference.

    The whole interval of the area is above 0, and the forget accuracies at the first and at the
    last step have no interval in common.
    """
    if curve is None or curve.area is None or curve.area.low is None:
        return False
    n = curve.forget_images
    first, last = curve.unlearned.forget[0], curve.unlearned.forget[-1]
    rose = wilson(first * n, n)[1] < wilson(last * n, n)[0]
    return rose and curve.area.low > 0


def is_ruined(curve: RelearnCurve) -> bool:
    """Return True if the training ruined the copy: then no image can come back.

    At some step, accuracy on new images is below half of that at the first, beyond the intervals.
    """
    shares, n = curve.unlearned.unseen, curve.unseen_effective
    if not shares or not n:
        return False
    least = wilson(shares[0] * n, n)[0]
    return any(2 * share < shares[0] and wilson(share * n, n)[1] < least for share in shares)


def contradictions(record: Predicate) -> Iterator[str]:
    """Say what in the curve of a record contradicts itself or the rest of the record."""
    curve, settings = record.relearn_curve, record.run.configuration.get("relearn")
    if curve is None:
        return
    if not isinstance(settings, Mapping):
        yield "it has a relearn curve, and its configuration asks for none"
        return
    if not _is_asked_for(curve, settings):
        yield "its relearn curve is not the one that its configuration asks for"
        return
    data = record.data
    if (
        curve.images != min(settings["images"], data.retain)
        or curve.forget_images != min(settings["evaluated"], data.forget)
        or (curve.unseen_images or 0) > data.unseen + data.test
    ):
        yield "its relearn curve counts other images than there are"
    yield from _of_the_values(record, curve)


def _is_asked_for(curve: RelearnCurve, settings: Mapping[str, Any]) -> bool:
    """Return True if a curve has the steps and the training of a configuration.

    Nothing is as long as the configuration says: a record may say anything.
    """
    names = ("batch_size", "lr", "steps", "every", "images", "evaluated")
    if not all(isinstance(settings.get(name), int | float) for name in names):
        return False
    every, last = settings["every"], curve.steps[-1]
    if (last, curve.batch_size, curve.lr) != (
        settings["steps"],
        settings["batch_size"],
        settings["lr"],
    ):
        return False
    between = range(len(curve.steps) - 1)
    return curve.steps[:-1] == [each * every for each in between] and last <= every * len(between)


def _of_the_values(record: Predicate, curve: RelearnCurve) -> Iterator[str]:
    """Say what is wrong with the accuracies of a curve, and with the area between them."""
    models = [each for each in (curve.unlearned, curve.gold) if each]
    if not all(_is_count(share, curve.forget_images) for each in models for share in each.forget):
        yield "its relearn curve has an accuracy that so many images cannot have"
    if (curve.unseen_effective or 0) > (curve.unseen_images or 0) + ROUNDING:
        yield "its relearn curve counts other images than there are"
    yield from _of_the_begin(record, curve)
    against = default_reference(curve)
    if curve.against != against or not _agree(
        curve.area, areas(curve)[against] if against else None
    ):
        yield "the area of its relearn curve does not follow from the curve"


def _of_the_begin(record: Predicate, curve: RelearnCurve) -> Iterator[str]:
    """Say where a curve begins elsewhere than the figures of the same images and models."""
    figure = record.figures[0]
    has_gold = figure.reference_is == RETRAINED
    if curve.gold and not has_gold:
        yield "its relearn curve has a model trained again, and its figures have none"
        return
    if curve.forget_images != record.data.forget:
        return  # a sample
    if not has_gold and figure.reference and not _is_of_such(curve, figure.reference):
        yield "its relearn curve has other new images than its figures"
    pairs = [(curve.unlearned, figure.after)]
    pairs += [(curve.gold, figure.reference)] if curve.gold else []
    if any(value is None or model.forget[0] != value.value for model, value in pairs):
        yield "its relearn curve does not begin at its figures"


def _is_of_such(curve: RelearnCurve, such: Value) -> bool:
    """Return True if the new images of a curve may be among those of `accuracy_of_such`.

    If they are all of them, the curve begins at their accuracy, and its interval is the same.
    """
    shares, n = curve.unlearned.unseen, curve.unseen_effective
    if not shares or not n or not curve.unseen_images:
        return True
    if curve.unseen_images < such.n:
        return True  # a sample
    low, high = wilson(shares[0] * n, n)
    return _agree(Value(value=shares[0], low=low, high=high, n=curve.unseen_images), such)


def _agree(one: Value | None, other: Value | None) -> bool:
    """Return True if two figures are the same, but for how another machine rounds."""
    if one is None or other is None:
        return one is other
    pairs = ((one.value, other.value), (one.low, other.low), (one.high, other.high))
    return one.n == other.n and all(_near(a, b) for a, b in pairs)


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < ROUNDING


def _is_count(share: float, n: int) -> bool:
    """Return True if a share is that of a whole number of n images."""
    return abs(share * n - round(share * n)) < ROUNDING * max(n, 1)


def follows(gate: GateResult, curve: RelearnCurve | None) -> bool:
    """Return True if a gate on the area ends as its condition and the curve say."""
    try:
        asked = Gated.model_validate({"gates": {RELEARN: Gate.read(gate.condition)}}).gates
    except ValueError:
        return False
    [expected] = apply_gates(asked, Figures({}, relearn=for_gates(curve)))
    pairs = (
        (gate.value, expected.value),
        (gate.lowest, expected.lowest),
        (gate.highest, expected.highest),
    )
    return gate.status == expected.status and all(_near(one, other) for one, other in pairs)
