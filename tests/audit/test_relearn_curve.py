"""The relearn curve of a record: areas worked out by hand, gates, words, and what was edited."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from lotus_ray.audit.consistency import contradictions
from lotus_ray.audit.envelope import new_envelope, read_statement
from lotus_ray.audit.folder import PAGE, RECORD, WEIGHTS
from lotus_ray.audit.gates import FAIL, PASS, WARN, Figures, Gated, apply_gates
from lotus_ray.audit.keys import read_public, read_signer
from lotus_ray.audit.page import to_page
from lotus_ray.audit.page.curve import figure
from lotus_ray.audit.predicate import Predicate, published_schema
from lotus_ray.audit.relearn import (
    RUINED,
    areas,
    for_gates,
    is_hidden,
    is_ruined,
    relearn_curve,
)
from lotus_ray.audit.sign import sign
from lotus_ray.audit.verify import verify
from lotus_ray.audit.words import RELEARN_QUESTION, text
from lotus_ray.metrics.relearn import points
from tests.audit.made_up import folder, key_pair, predicate, relearned, row_of_curve

HIDDEN, REMOVED = (23, 36, 37), (23, 24, 24)  # of 37, after 0, 4 and 8 steps


def test_an_area_by_hand() -> None:
    """Forget: (4·(23 + 36)/2 + 4·(36 + 37)/2)/8/37 = 33/37. Gold: (4·23 + 4·22)/8/37 = 22.5/37.

    Beside unseen: 33/37 − .6. Wilson of 33 of 37: .7530 to .9571; of 60 % of 199.85: .5307 to
    .6655. Newcombe: .2919 − √((.8919 − .7530)² + (.6655 − .6)²) = .1384, and
    .2919 + √((.9571 − .8919)² + (.6 − .5307)²) = .3870.
    """
    curve = relearn_curve(row_of_curve(*HIDDEN), row_of_curve(23, 23, 21))
    assert curve is not None
    assert curve.against == "gold"
    assert curve.area is not None
    assert curve.area.value == pytest.approx(10.5 / 37)
    unseen = areas(curve)["unseen"]
    assert unseen.value == pytest.approx(33 / 37 - 0.6)
    assert (unseen.low, unseen.high) == pytest.approx((0.1384, 0.3870), abs=2e-4)
    alone = relearn_curve(row_of_curve(*HIDDEN), None)
    assert alone is not None
    assert (alone.against, alone.area) == ("unseen", unseen)


@pytest.mark.parametrize(
    ("right", "unseen", "hidden"),
    [
        (HIDDEN, (0.6, 0.6, 0.6), True),
        (REMOVED, (0.6, 0.6, 0.6), False),
        (HIDDEN, (0.6, 0.95, 1.0), False),  # any image comes back: the model was ruined
        ((36, 37, 37), (0.6, 0.6, 0.6), False),  # nothing was forgotten, so nothing came back
        ((23, 24, 37), (0.6, 0.6, 0.6), False),  # late: the area may be chance
    ],
)
def test_hidden_is_what_rose_above_its_reference_beyond_chance(
    right: tuple[int, ...], unseen: tuple[float, ...], hidden: bool
) -> None:
    assert is_hidden(relearn_curve(row_of_curve(*right, unseen=unseen), None)) is hidden


def test_a_curve_without_a_reference_has_no_area() -> None:
    row = row_of_curve(*HIDDEN)
    for name in ("unseen", "unseen_images", "unseen_effective"):
        del row[name]
    curve = relearn_curve(row, {"undefined": "the memory ran out"})
    assert curve is not None
    assert (curve.against, curve.area, for_gates(curve)) == (None, None, {})
    assert not is_hidden(curve)
    assert relearn_curve({"undefined": "the memory ran out"}, row) is None
    assert relearn_curve(None, None) is None


@pytest.mark.parametrize(
    ("right", "gold", "gate", "status", "why"),
    [
        (HIDDEN, (), {"at_most": 0.05}, FAIL, "not met"),
        (REMOVED, (), {"at_most": 0.5}, PASS, "met"),
        (REMOVED, (), {"at_most": 0.1}, WARN, "too few images to be sure"),
        (REMOVED, (), {"at_most": 0}, FAIL, "not met"),  # .04 above unseen
        (REMOVED, (), {"within": 0.5, "of": "unseen"}, PASS, "met"),
        (REMOVED, (), {"within": 0.05, "of": "gold"}, WARN, "there is no gold in this run"),
        (REMOVED, (23, 24, 24), {"within": 0.3, "of": "gold"}, PASS, "met"),
        (HIDDEN, (23, 24, 24), {"within": 0.05, "of": "gold"}, FAIL, "not met"),
        (None, (), {"at_most": 1}, WARN, "the relearn curve is undefined: the job turns it off"),
    ],
)
def test_a_gate_on_the_area_passes_warns_or_fails(
    right: tuple[int, ...] | None, gold: tuple[int, ...], gate: dict, status: str, why: str
) -> None:
    curve = relearn_curve(
        row_of_curve(*right) if right else None, row_of_curve(*gold) if gold else None
    )
    figures = Figures(
        {"unlearned": {}, **({"gold": {}} if gold else {})},
        undefined={"relearn": "the job turns it off"},
        relearn=for_gates(curve),
    )
    [result] = apply_gates(Gated.model_validate({"gates": {"relearn": gate}}).gates, figures)
    assert (result.status, why in result.why) == (status, True), result
    assert (result.value is None) == (status == WARN and "interval" not in result.why)


@pytest.mark.parametrize(
    "gate",
    [
        {"at_least": 0.1},
        {"drop_at_most": 0.1},
        {"at_most": "original"},
        {"at_most": "gold"},
        {"within": 0.1, "of": "original"},
    ],
)
def test_other_rules_for_the_area_are_one_clear_error(gate: dict) -> None:
    with pytest.raises(ValidationError, match="it takes at_most with a number, or within") as error:
        Gated.model_validate({"gates": {"relearn": gate}})
    assert error.value.error_count() == 1


def found(record: Predicate) -> list[str]:
    """Return what contradicts in a record whose page and digests fit."""
    envelope = new_envelope(record, {PAGE: to_page(record).encode(), WEIGHTS: b"weights" * 100})
    subjects, read = read_statement(envelope, RECORD)
    return list(contradictions(read, subjects))


def gated(area: float, status: str, **more: Any) -> dict[str, Any]:
    gate = {
        "gate": "relearn",
        "condition": "{at_most: 0.5}",
        "status": status,
        "value": area,
        "lowest": None,
        "highest": 0.5,
        "why": "the condition is met",
    }
    return {"gates": [{**gate, **more}], "outcome": "passed"}


@pytest.mark.parametrize("gold", [(), (20, 21, 21)])
def test_a_whole_record_with_a_curve_agrees_with_itself(gold: tuple[int, ...]) -> None:
    changes = relearned(*REMOVED, gold=gold)
    record = predicate(**changes, **gated(changes["relearn_curve"].area.value, PASS))
    assert found(record) == []
    content = json.loads(record.model_dump_json())
    jsonschema.Draft202012Validator(json.loads(published_schema())).validate(content)
    alone = relearned(*HIDDEN)
    assert found(predicate(**alone)) == []
    curve = alone["relearn_curve"].model_copy(update={"unseen_effective": 20.0})
    assert AREA in found(predicate(**{**alone, "relearn_curve": curve}))


def with_curve(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["relearn_curve"].update(changes)


def with_condition(condition: str) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["gates"][0].update(condition=condition)


def lower(record: dict[str, Any], model: str, step: int, less: float = 1 / 37) -> None:
    record["relearn_curve"][model]["forget"][step] -= less


NOT_ASKED = "its relearn curve is not the one that its configuration asks for"
AREA = "the area of its relearn curve does not follow from the curve"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: lower(r, "unlearned", 1), AREA),
        (lambda r: lower(r, "gold", 2, -1 / 37), AREA),
        (lambda r: lower(r, "unlearned", 1, 0.01), "an accuracy that so many images cannot have"),
        (lambda r: lower(r, "unlearned", 0), "does not begin at its figures"),
        (lambda r: lower(r, "gold", 0), "does not begin at its figures"),
        (lambda r: r["relearn_curve"]["area"].update(value=0.0), AREA),
        (lambda r: r["relearn_curve"]["area"].update(high=0.1), AREA),
        (with_curve(area=None), AREA),
        (with_curve(against="unseen"), AREA),
        (with_curve(gold=None), AREA),
        (with_curve(unseen_effective=201.0), "counts other images than there are"),
        (with_curve(forget_images=38), "counts other images than there are"),
        (with_curve(forget_images=1), "counts other images than there are"),
        (with_curve(images=63), "counts other images than there are"),
        (with_curve(images=65), "counts other images than there are"),
        (with_curve(unseen_images=201), "counts other images than there are"),
        (with_curve(steps=[0, 4, 9]), NOT_ASKED),
        (with_curve(lr=0.001), NOT_ASKED),
        (with_curve(batch_size=64), NOT_ASKED),
        (lambda r: r.update(relearn_curve=None), "its list of what it does not show"),
        (lambda r: r["run"]["configuration"].pop("relearn"), "its configuration asks for none"),
        (lambda r: r["gates"][0].update(value=0.01), "the figures of gate relearn do not give"),
        (lambda r: r["gates"][0].update(value=None), "the figures of gate relearn do not give"),
        (lambda r: r["gates"][0].update(highest=0.9), "the figures of gate relearn do not give"),
        (with_condition("{within: 0.01, of: unseen}"), "the figures of gate relearn do not give"),
        (with_condition("{at_most: 0.5}"), "the figures of gate relearn do not give"),
        (with_condition("{at_least: 0.5}"), "the figures of gate relearn do not give"),
        (with_condition("as agreed"), "the figures of gate relearn do not give"),
    ],
)
def test_an_edited_curve_is_named_although_its_page_and_digests_fit(
    change: Callable[[dict[str, Any]], object], named: str
) -> None:
    changes = relearned(*REMOVED, gold=(20, 21, 21))
    area = areas(changes["relearn_curve"])["unseen"].value
    gate = gated(area, PASS, condition="{within: 0.5, of: unseen}", lowest=-0.5)
    record = json.loads(predicate(**changes, **gate).model_dump_json())
    assert found(Predicate.model_validate(record)) == []
    change(record)
    said = found(Predicate.model_validate(record))
    assert any(named in each for each in said), said


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["relearn_curve"]["unlearned"]["unseen"].pop(),
        lambda r: r["relearn_curve"]["gold"]["forget"].append(0.5),
        lambda r: r["relearn_curve"]["unlearned"].update(unseen=None),
        with_curve(unseen_images=None),
        with_curve(steps=[0, 0, 8]),
        with_curve(steps=[1, 4, 8]),
        lambda r: r["relearn_curve"]["gold"]["forget"].__setitem__(1, 1.5),
    ],
)
def test_a_curve_that_cannot_be_drawn_is_no_record(
    change: Callable[[dict[str, Any]], object],
) -> None:
    record = json.loads(predicate(**relearned(*REMOVED, gold=(20, 21, 21))).model_dump_json())
    change(record)
    with pytest.raises(ValidationError, match="relearn_curve"):
        Predicate.model_validate(record)


def test_a_hidden_image_is_in_the_verdict_and_on_the_page_in_plain_words(tmp_path: Path) -> None:
    pair = key_pair(tmp_path / "keys")
    path = folder(tmp_path / "folder", **relearned(*HIDDEN))
    sign(path, read_signer(pair.private))
    assert verify(path, read_public([pair.public])).errors == []
    record = predicate(**relearned(*HIDDEN))
    assert predicate().verdict.forgetting == "demonstrated"
    assert record.verdict.forgetting == "partly demonstrated"
    assert record.verdict.sentence.endswith(
        "(pure chance: 50%). Some were only hidden: after a copy of the new model learned a little "
        "from other images, it recognised 100% of these, and 62% before that."
    )
    page, shown = (path / PAGE).read_text(), text(record)
    for said in (page, shown):
        assert RELEARN_QUESTION in said
        assert "It recognised 62% of the forgotten images before that, and 100% after." in said
        assert "Of 200 new images of the same kinds: 60% and 60%." in said
        assert "So some of the images were hidden, not removed." in said
    assert '<p class="verdict unsure">' in page
    assert 'role="img"' in page
    assert "new model, forgotten images: 62% to 100%" in page
    assert page.count("<polyline") == 4  # two lines, and two in the key


def test_a_removed_image_leaves_the_verdict_as_it_is() -> None:
    record = predicate(**relearned(*REMOVED, gold=(22, 23, 22)))
    plain = predicate(figures=record.figures)
    assert "hidden" not in record.verdict.sentence
    assert RELEARN_QUESTION not in text(plain)
    shown = text(record)
    assert "treated alike: 59% and 59%." in shown
    assert "The difference is so small that it may be chance." in shown
    assert "only a little was tried" in shown
    page = to_page(record)
    assert '<p class="verdict good">' in page
    assert page.count("<polyline") == 8
    for word in ("epoch", "retain", "gold", "unlearn", "seed", "gradient"):
        assert word not in shown.split("What this does not show")[0]


def test_a_copy_that_was_ruined_shows_nothing_and_passes_no_gate() -> None:
    """A learning rate far too high: nothing can come back, and the area is near 0."""
    ruined = relearned(23, 4, 3, unseen=(0.6, 0.12, 0.1))
    curve = ruined["relearn_curve"]
    figures = Figures({"unlearned": {}}, relearn=for_gates(curve))
    gates = Gated.model_validate({"gates": {"relearn": {"at_most": 0.5}}}).gates
    [result] = apply_gates(gates, figures)
    assert (result.status, RUINED in result.why) == (WARN, True)
    record = predicate(**ruined)
    assert found(record) == []
    assert "Of 200 new images of the same kinds: 60% and 10%." in text(record)
    assert "this shows nothing of the forgotten ones" in text(record)
    passed = predicate(**ruined, **gated(result.value or 0.0, PASS))
    assert found(passed) == ["the figures of gate relearn do not give PASS"]
    little_worse = relearn_curve(row_of_curve(*REMOVED, unseen=(0.6, 0.45, 0.4)), None)
    assert little_worse is not None
    assert not is_ruined(little_worse)


@pytest.mark.parametrize(
    "change",
    [
        with_curve(unseen_effective=100.0),
        with_curve(unseen_images=201),
        lambda r: r["relearn_curve"]["unlearned"]["unseen"].__setitem__(0, 0.7),
    ],
)
def test_all_new_images_are_those_of_the_figures(change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(predicate(**relearned(*REMOVED)).model_dump_json())
    change(record)
    said = found(Predicate.model_validate(record))
    assert "its relearn curve has other new images than its figures" in said


def test_a_pass_that_was_a_warning_is_named() -> None:
    """The interval reaches beyond the condition: see `gates.apply_gates`."""
    changes = relearned(*REMOVED)
    area = changes["relearn_curve"].area.value
    edited = gated(area, PASS, condition="{at_most: 0.1}", highest=0.1)
    assert found(predicate(**changes, **edited)) == ["the figures of gate relearn do not give PASS"]


def test_endless_steps_in_a_configuration_are_a_no_and_take_no_memory() -> None:
    record = json.loads(predicate(**relearned(*REMOVED)).model_dump_json())
    record["run"]["configuration"]["relearn"].update(steps=10**15, every=1)
    record["relearn_curve"]["steps"] = [0, 1, 10**15]
    assert NOT_ASKED in found(Predicate.model_validate(record))


def test_a_sample_is_called_one() -> None:
    """12 of 37 images were measured: of them 1 is recognised, of all 23."""
    row = row_of_curve(23, 36, 37, unseen=(0.1, 0.1, 0.1))
    curve = relearn_curve(row | {"forget": [1 / 12, 1.0, 1.0], "forget_images": 12}, None)
    shown = text(predicate(**relearned(*HIDDEN) | {"relearn_curve": curve}))
    assert "It recognised 8% of 12 of the forgotten images before that, and 100% after." in shown
    assert "it recognised 100% of 12 of these, and 8% before that" in shown


@pytest.mark.parametrize(
    ("last", "every", "labels"),
    [
        (30, 5, [0, 5, 10, 15, 20, 25, 30]),
        (1, 1, [0, 1]),
        (100, 1, [0, 17, 34, 51, 68, 85, 100]),
        (9, 4, [0, 4, 9]),  # not 8
    ],
)
def test_steps_with_a_label_were_measured(last: int, every: int, labels: list[int]) -> None:
    steps = points(last, every)
    row = row_of_curve(*(23 for _ in steps), unseen=[0.6 for _ in steps]) | {"steps": steps}
    curve = relearn_curve(row, None)
    assert curve is not None
    assert re.findall(r'<text x="[^"]*" y="[^"]*">(\d+)</text>', figure(curve)) == [
        *map(str, labels)
    ]
