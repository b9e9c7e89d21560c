"""The first screen of a record: plain words for somebody who knows no machine learning."""

from __future__ import annotations

from dataclasses import dataclass

from lotus_ray.audit.predicate import Predicate, Value

_OUTCOME = {
    "passed": "All conditions that were set beforehand are met.",
    "passed with warnings": "No condition that was set beforehand is broken, and some could not "
    "be shown to be met.",
    "failed": "A CONDITION THAT WAS SET BEFOREHAND IS BROKEN. The new model was put aside and must "
    "not be used.",
    "no gates": "No condition was set beforehand.",
}


@dataclass(frozen=True)
class Screen:
    """The first screen: a title, the verdict, three boxes, and lists."""

    title: str
    asked: str
    verdict: str
    state: str  # good, unsure or bad: the colour of the verdict
    boxes: tuple[tuple[str, str, str], ...]  # heading, figure, what it is
    conditions: str
    left: tuple[str, ...]  # what the request leaves open, such as images that were not found
    does_not_show: tuple[str, ...]
    by_hand: tuple[str, ...]


def first_screen(record: Predicate) -> Screen:
    """Return the first screen of a record."""
    found = sum(request.found for request in record.requests)
    lists = len(record.requests)
    asked = (
        "A computer program learned from example images to tell what is in an image. It is called "
        f"the model here. It was asked to forget {_images(found)}"
        + (f", named by {lists} requests." if lists > 1 else ".")
        + f" This was done by the method {record.run.method['name']} and ended on "
        f"{record.completed[:10]}. This page says what was measured before and after."
    )
    good = record.verdict.forgetting == "demonstrated" and record.outcome != "failed"
    bad = record.outcome == "failed"
    return Screen(
        title=f"Request to forget {_images(found)}",
        asked=asked,
        verdict=record.verdict.sentence,
        state="bad" if bad else "good" if good else "unsure",
        boxes=_boxes(record),
        conditions=_OUTCOME[record.outcome],
        left=tuple(_left(record)),
        does_not_show=tuple(record.not_shown),
        by_hand=tuple(record.residual_copies),
    )


def text(record: Predicate) -> str:
    """Return the first screen as lines of text."""
    screen = first_screen(record)
    parts = [screen.title, "", screen.verdict, "", screen.asked, ""]
    parts += [f"  {heading}: {figure}, {what}" for heading, figure, what in screen.boxes]
    parts += ["", screen.conditions]
    for heading, lines in (
        ("Left open", screen.left),
        ("What this does not show", screen.does_not_show),
        ("To check by hand", screen.by_hand),
    ):
        if lines:
            parts += ["", f"{heading}:", *(f"  - {line}" for line in lines)]
    return "\n".join(parts)


def _boxes(record: Predicate) -> tuple[tuple[str, str, str], ...]:
    recognised = record.figures[0]
    return (
        ("Before", _of(recognised.before), "of these images were recognised by the model"),
        ("After", _of(recognised.after), "of the same images are recognised by the new model"),
        ("To compare", _percent(recognised.reference), recognised.reference_is),
    )


def _left(record: Predicate) -> list[str]:
    """Return what the request leaves open, in sentences."""
    lines = []
    for request in record.requests:
        name = f"request {request.request_id}: " if len(record.requests) > 1 else ""
        for count, what in (
            (request.missing, "named by the request are not among the images that we have"),
            (request.held_out, "were never used to train the model, so there is nothing to forget"),
            (request.forgotten_before, "were forgotten already, by an earlier request"),
            (request.in_other_requests, "are named by another request of this run too"),
        ):
            if count:
                lines.append(f"{name}{_images(count)} {what}.")
    near = record.near_duplicates
    if near and near.kept_in_training:
        lines.append(
            f"{_images(near.kept_in_training)} that look nearly the same were not named, and the "
            "model still learns from them."
        )
    if near and near.held_out:
        lines.append(
            f"{_images(near.held_out)} that look nearly the same are among the new images that we "
            "compare with."
        )
    if record.chain.retrain_now:
        lines.append(
            "The model has lost so much by all requests so far that it should be retrained."
        )
    return lines


def _of(value: Value | None) -> str:
    if value is None:
        return "unknown"
    return f"{round(value.value * value.n)} of {value.n}"


def _percent(value: Value | None) -> str:
    return "unknown" if value is None else f"{value.value:.0%}"


def _images(count: int) -> str:
    return f"{count:,} image" + ("" if count == 1 else "s")
