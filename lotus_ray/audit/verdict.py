"""The verdict: whether forgetting was demonstrated, by which rule, in words for anybody."""

from __future__ import annotations

from lotus_ray.audit.predicate import Demonstrated, Figure, RelearnCurve, Value, Verdict
from lotus_ray.audit.relearn import is_hidden

RULE = (
    "Two figures count: the share of the images to forget that the model recognises, and how well "
    "a guess from the model's loss tells them from images that it never saw. A figure moved if its "
    "intervals before and after do not overlap, and it came nearer to its reference. It is at its "
    "reference if the interval after overlaps that of the reference. Demonstrated: at least one "
    "moved, both are at their reference, and no image that was only hidden came back while a copy "
    "learned a little from other images. Partly: at least one moved. Else not demonstrated."
)
_START: dict[Demonstrated, str] = {
    "demonstrated": "Forgetting was demonstrated",
    "partly demonstrated": "Forgetting was demonstrated in part",
    "not demonstrated": "Forgetting was not demonstrated",
}

_LEAST_LOSS = 0.02  # of accuracy, to be named in the verdict
_SHORT = {"retain_accuracy": "images to keep", "heldout_accuracy": "new images"}


def overlap(one: Value, other: Value) -> bool:
    """Return True if the intervals of two figures have a point in common."""
    low, high = _interval(one)
    other_low, other_high = _interval(other)
    return low <= other_high and other_low <= high


def _interval(value: Value) -> tuple[float, float]:
    if value.low is None or value.high is None:
        return value.value, value.value
    return value.low, value.high


def moved(figure: Figure) -> bool:
    """Return True if a figure came nearer to its reference by more than its intervals allow."""
    if figure.before is None or figure.after is None or figure.reference is None:
        return False
    target = figure.reference.value
    nearer = abs(figure.after.value - target) < abs(figure.before.value - target)
    return nearer and not overlap(figure.before, figure.after)


def verdict(figures: list[Figure], curve: RelearnCurve | None = None) -> Verdict:
    """Say whether forgetting was demonstrated, by RULE. The first two figures count.

    Args:
        figures: of the record.
        curve: where it shows clearly that images were hidden, forgetting is in part at best.
    """
    counted = figures[:2]
    at_reference = [
        figure.after is not None
        and figure.reference is not None
        and overlap(figure.after, figure.reference)
        for figure in counted
    ]
    forgetting: Demonstrated = "not demonstrated"
    if any(map(moved, counted)):
        is_whole = all(at_reference) and not is_hidden(curve)
        forgetting = "demonstrated" if is_whole else "partly demonstrated"
    sentence = _sentence(forgetting, figures, curve)
    return Verdict(forgetting=forgetting, sentence=sentence, rule=RULE)


def headline(forgetting: Demonstrated, recognised: Figure) -> str:
    """Return the verdict in one sentence: before, after, and what to compare with."""
    before, after = recognised.before, recognised.after
    if before is None or after is None:
        return "Forgetting was not demonstrated: there was no image to measure it on."
    images = f"{before.n:,} image" + ("" if before.n == 1 else "s")
    return (
        f"{_START[forgetting]}: of {images} to forget, the model recognised "
        f"{round(before.value * before.n):,} before and {round(after.value * after.n):,} after. "
        f"That is {share(before)} and {share(after)} ({recognised.reference_is}: "
        f"{share(recognised.reference)})."
    )


def _sentence(forgetting: Demonstrated, figures: list[Figure], curve: RelearnCurve | None) -> str:
    """Return the headline, the other figure, and why the verdict is what it is."""
    recognised, told = figures[:2]
    guess = (
        f" A guess which images were used in training was right in {share(told.before)} of tries "
        f"before and {share(told.after)} after ({told.reference_is}: {share(told.reference)})."
        if told.before and told.after
        else ""
    )
    return f"{headline(forgetting, recognised)}{guess} {why(forgetting, figures, curve)}"


def why(forgetting: Demonstrated, figures: list[Figure], curve: RelearnCurve | None) -> str:
    """Say what the figures mean: the first two in a sentence, or that images were hidden; and what
    else the model lost.
    """
    meaning = (
        _hidden(curve, figures[0])
        if curve and is_hidden(curve)
        else _meaning(forgetting, figures[:2])
    )
    return meaning + _damage(figures[2:])


def _hidden(curve: RelearnCurve, recognised: Figure) -> str:
    """Say that images were hidden and came back."""
    first, last, n = curve.unlearned.forget[0], curve.unlearned.forget[-1], curve.forget_images
    is_all = recognised.after is not None and recognised.after.n == n
    which = "these" if is_all else f"{n:,} of these"
    return (
        f"Some were only hidden: after a copy of the new model learned a little from other images, "
        f"it recognised {last:.0%} of {which}, and {first:.0%} before that."
    )


def _damage(others: list[Figure]) -> str:
    """Say which images that it should know the model recognises less; empty if there are none."""
    worse = [
        f"{_SHORT.get(figure.name, figure.meaning)} {share(figure.before)} before and "
        f"{share(figure.after)} after"
        for figure in others
        if _is_below(figure.after, figure.before) and _loss(figure) >= _LEAST_LOSS
    ]
    if not worse:
        return ""
    return f" But the new model is worse at what it should still know: {', '.join(worse)}."


def _loss(figure: Figure) -> float:
    return figure.before.value - figure.after.value if figure.before and figure.after else 0.0


def _meaning(forgetting: Demonstrated, counted: list[Figure]) -> str:
    if forgetting == "demonstrated":
        return "So the new model treats these images like ones that it never saw."
    recognised = counted[0]
    if _is_below(recognised.after, recognised.reference):
        return (
            f"It recognises even fewer of them than it should ({recognised.reference_is}: "
            f"{share(recognised.reference)}), which gives them away."
        )
    if forgetting == "partly demonstrated":
        return "Something changed, but the new model still treats these images unlike new ones."
    if all(f.before and f.after and overlap(f.before, f.after) for f in counted):
        return "The difference between before and after is so small that it may be chance."
    return "The figures did not come nearer to those that we compare with."


def _is_below(one: Value | None, other: Value | None) -> bool:
    """Return True if a figure is below another by more than their intervals."""
    if one is None or other is None:
        return False
    return one.value < other.value and not overlap(one, other)


def share(value: Value | None) -> str:
    """Return a share in per cent."""
    return "unknown" if value is None else f"{value.value:.0%}"
