"""The first screen of a record: plain words for somebody who knows no machine learning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lotus_ray.audit.gates import FAIL, PASS, WARN, Status
from lotus_ray.audit.predicate import Predicate, RelearnCurve, Value
from lotus_ray.audit.relearn import is_hidden, is_ruined
from lotus_ray.audit.verdict import headline, share, why


@dataclass(frozen=True)
class Compared:
    """One question about the model, answered before, after, and for something to compare with."""

    question: str
    before: str
    after: str
    to_compare: str
    compared_with: str


RELEARN_QUESTION = (
    "If the model goes on to learn a little from other images, does it recognise the forgotten "
    "ones again?"
)


@dataclass(frozen=True)
class Screen:
    """The first screen: a title, the verdict, the figures, and lists."""

    title: str
    stop: str  # why the new model must not be used, if so
    headline: str
    why: str
    state: str  # good, unsure or bad: the colour of the verdict
    about: str
    compared: tuple[Compared, ...]
    relearned: str  # the answer to RELEARN_QUESTION; empty if that was not measured
    conditions: str
    left: tuple[str, ...]  # what the request leaves open, such as images that were not found
    does_not_show: tuple[str, ...]
    by_hand: tuple[str, ...]


def first_screen(record: Predicate) -> Screen:
    """Return the first screen of a record."""
    found = len(record.commitments.ids)  # several requests may name one image
    lists = len(record.requests)
    is_bad = record.outcome == "failed"
    is_good = record.verdict.forgetting == "demonstrated" and not is_bad
    conditions = _conditions(record)
    return Screen(
        title=f"Request to forget {_images(found)}",
        stop=f"Do not use the new model. {conditions}" if is_bad else "",
        headline=headline(record.verdict.forgetting, record.figures[0]),
        why=why(record.verdict.forgetting, record.figures, record.relearn_curve),
        state="bad" if is_bad else "good" if is_good else "unsure",
        about="A computer program learned from example images to tell what is in an image. It is "
        f"called the model here. It was asked to forget {_images(found)}"
        + (f", named by {lists} requests." if lists > 1 else ".")
        + f" This was done on {record.completed[:10]}, and made a new model. A model recognises an "
        "image if it says rightly what is in it. It can do so for many images that it never saw, "
        "so the aim is not none, but as many as of new images.",
        compared=tuple(_compared(record)),
        relearned=_relearned(record.relearn_curve, found) if record.relearn_curve else "",
        conditions="" if is_bad else conditions,
        left=tuple(_left(record)),
        does_not_show=tuple(record.not_shown),
        by_hand=tuple(record.residual_copies),
    )


def text(record: Predicate) -> str:
    """Return the first screen as lines of text."""
    screen = first_screen(record)
    parts = [screen.title, "", *([screen.stop, ""] if screen.stop else [])]
    parts += [f"{screen.headline} {screen.why}", "", screen.about]
    for each in screen.compared:
        parts += ["", each.question, f"  Before: {each.before}", f"  After: {each.after}"]
        parts += [f"  {each.compared_with}: {each.to_compare}"]
    parts += ["", RELEARN_QUESTION, f"  {screen.relearned}"] if screen.relearned else []
    parts += ["", screen.conditions] if screen.conditions else []
    for heading, lines in screen_lists(screen):
        parts += ["", f"{heading}:", *(f"  - {line}" for line in lines)]
    return "\n".join(parts)


def screen_lists(screen: Screen) -> list[tuple[str, tuple[str, ...]]]:
    """Return the headings and lines of the lists that are not empty."""
    lists = (
        ("Left open", screen.left),
        ("What this does not show", screen.does_not_show),
        ("Where traces may still be, to check by hand", screen.by_hand),
    )
    return [(heading, lines) for heading, lines in lists if lines]


def _compared(record: Predicate) -> list[Compared]:
    """Return the two figures of the verdict, as questions that anybody can follow."""
    recognised, told = record.figures[:2]
    return [
        Compared(
            "How many of these images does the model recognise?",
            _counted(recognised.before),
            _counted(recognised.after),
            share(recognised.reference),
            _capital(recognised.reference_is),
        ),
        Compared(
            "Of two images, one of these and a new one: how often can somebody guess, from how "
            "sure the model is, which one was used to train it?",
            share(told.before),
            share(told.after),
            share(told.reference),
            _capital(told.reference_is),
        ),
    ]


def _relearned(curve: RelearnCurve, forgotten: int) -> str:
    """Return what came back while copies of the model learned from other images.

    Args:
        curve: of the record.
        forgotten: images. If fewer were measured, the words say how many.
    """
    own, gold, n = curve.unlearned, curve.gold, curve.forget_images
    which = "the forgotten images" if n == forgotten else f"{n:,} of the forgotten images"
    said = (
        f"A copy of the new model learned a little from {_images(curve.images)} to keep, and from "
        f"none of the forgotten. It recognised {own.forget[0]:.0%} of {which} before that, and "
        f"{own.forget[-1]:.0%} after."
    )
    if gold:
        said += (
            f" A model that was trained again without them, treated alike: {gold.forget[0]:.0%} "
            f"and {gold.forget[-1]:.0%}."
        )
    if own.unseen and (not gold or is_ruined(curve)):
        said += (
            f" Of {curve.unseen_images:,} new images of the same kinds: {own.unseen[0]:.0%} and "
            f"{own.unseen[-1]:.0%}."
        )
    return f"{said} {_meaning_of(curve)}"


def _meaning_of(curve: RelearnCurve) -> str:
    """Say what the area between the curves means: beyond chance, or not."""
    if is_hidden(curve):
        return "So some of the images were hidden, not removed."
    if is_ruined(curve):
        return (
            "That training ruined the copy: it came to recognise far fewer new images, too. So "
            "this shows nothing of the forgotten ones."
        )
    area = curve.area
    if area is None or area.low is None or area.high is None:
        return "There is nothing to compare that with."
    if area.low <= 0 <= area.high:
        return "The difference is so small that it may be chance."
    other = "the other model" if curve.against == "gold" else "of new images"
    more = "more" if area.value > 0 else "fewer"
    return f"On average over these steps, it recognised {more} of them than {other}."


def _conditions(record: Predicate) -> str:
    """Say how many of the conditions are met."""
    if not record.gates:
        return "No condition that the new model must meet was set beforehand."
    count = Counter(gate.status for gate in record.gates)
    words: dict[Status, str] = {
        FAIL: "BROKEN",
        PASS: "met",
        WARN: "neither shown to be met nor to be broken",
    }
    parts = [f"{count[status]} {what}" for status, what in words.items() if count[status]]
    return f"Conditions that were set beforehand: {', '.join(parts)}."


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _left(record: Predicate) -> list[str]:
    """Return what the request leaves open, in sentences."""
    lines = []
    for request in record.requests:
        name = f"request {request.request_id}: " if len(record.requests) > 1 else ""
        for count, what in (
            (request.missing, "in the request, but not among the images that we have"),
            (request.held_out, "never used to train the model: there is nothing to forget"),
            (request.forgotten_before, "already forgotten for an earlier request, and now again"),
            (request.in_other_requests, "in another request of this run too"),
        ):
            if count:
                lines.append(_sentence(name, count, what))
    if record.data.bad_images:
        lines.append(_sentence("", record.data.bad_images, "damaged, and left out of everything"))
    near = record.near_duplicates
    if near and near.kept_in_training:
        lines.append(
            f"{_images(near.kept_in_training)} not in any request, but nearly the same as one to "
            "forget: the model still learns from such images."
        )
    if near and near.held_out:
        lines.append(
            f"{_images(near.held_out)} among the new ones that we compare with, but nearly the "
            "same as one to forget."
        )
    if record.chain.retrain_now:
        lines.append(
            "The model has lost so much by all requests so far that it should be retrained."
        )
    return lines


def _sentence(request: str, count: int, what: str) -> str:
    return f"{request}{_images(count)} {'was' if count == 1 else 'were'} {what}."


def _counted(value: Value | None) -> str:
    """Return a share in per cent, as what it is compared with is given, and the count."""
    if value is None:
        return "unknown"
    return f"{share(value)} ({round(value.value * value.n):,} of {value.n:,})"


def _images(count: int) -> str:
    return f"{count:,} image" + ("" if count == 1 else "s")
