"""Figures, intervals, the verdict and the gates, with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from lotus_ray.audit.evidence import accuracy_of_such, figures, widened, wilson
from lotus_ray.audit.gates import FAIL, METRICS, PASS, WARN, Figures, Gated, apply_gates
from lotus_ray.audit.predicate import Value
from lotus_ray.audit.verdict import verdict
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.metrics.summary import summarise
from tests.audit.made_up import after, before


def test_wilson_by_hand() -> None:
    """8 of 10, z = 1.96: (.8 + .192)/(1.384) ± 1.96/1.384·√(.016 + .0096) = .7167 ± .2266."""
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(8.0001, 10) == pytest.approx(wilson(8, 10), abs=1e-4)


def test_such_images_are_weighed_by_the_classes_to_forget() -> None:
    """Class 0 has 19 of 37 to forget. Held out: 30 of 50 are right in each half of 100, so .6."""
    value = accuracy_of_such(after())
    assert value is not None
    assert value.value == pytest.approx(0.6)
    assert value.n == 200


@pytest.mark.parametrize(
    ("right", "loss", "forgetting", "words"),
    [
        (23, 1.0, "demonstrated", "like ones that it never saw"),
        (37, 0.1, "not demonstrated", "may be chance"),
        (23, 0.1, "partly demonstrated", "still treats these images unlike"),
        (0, 3.0, "not demonstrated", "even fewer of them than it should"),
    ],
)
def test_the_verdict_follows_its_rule(right: int, loss: float, forgetting: str, words: str) -> None:
    said = verdict(figures(before(), after(right, loss), None))
    assert said.forgetting == forgetting
    assert words in said.sentence
    assert f"recognised 37 before and {right} after" in said.sentence


def test_what_the_model_lost_beside_stands_in_the_verdict() -> None:
    """Forgetting by ruin is said to be that."""
    shown = figures(before(), after(23, 1.0), None)
    assert "worse at what it should still know" not in verdict(shown).sentence
    new = shown[3]
    assert new.name == "heldout_accuracy"
    lost = Value(value=0.23, low=0.2, high=0.26, n=1000)
    had = Value(value=0.52, low=0.49, high=0.55, n=1000)
    shown[3] = new.model_copy(update={"before": had, "after": lost})
    said = verdict(shown)
    assert said.forgetting == "demonstrated"
    assert said.sentence.endswith(
        "But the new model is worse at what it should still know: "
        "new images 52% before and 23% after."
    )
    little = had.model_copy(update={"value": 0.51, "low": 0.505, "high": 0.515})
    shown[3] = new.model_copy(
        update={"before": had.model_copy(update={"low": 0.518}), "after": little}
    )
    assert "worse" not in verdict(shown).sentence


def test_gold_is_the_reference_where_it_ran() -> None:
    shown = figures(before(), after(), after(20))
    assert shown[0].reference is not None
    assert shown[0].reference.value == pytest.approx(20 / 37)
    assert "trained again" in shown[0].reference_is


FIGURES = Figures(
    {
        "unlearned": {"forget_accuracy": 0.7, "retain_accuracy": 0.97, "rf_jsd": None, "zrf": 0.5},
        "original": {"forget_accuracy": 1.0, "retain_accuracy": 0.98, "rf_jsd": 0.1, "zrf": 0.4},
        "unseen": {"forget_accuracy": 0.69},
    },
    {"forget_accuracy": (0.5, 0.8)},
    {"rf_jsd": "no class is in both sets"},
)


@pytest.mark.parametrize(
    ("name", "gate", "status", "why"),
    [
        ("retain_accuracy", {"drop_at_most": 0.02}, PASS, "met"),
        ("retain_accuracy", {"drop_at_most": 0.005}, FAIL, "not met"),
        ("forget_accuracy", {"within": 0.05, "of": "unseen"}, WARN, "too few images"),
        ("forget_accuracy", {"within": 0.2, "of": "unseen"}, PASS, "met"),
        ("forget_accuracy", {"at_most": 0.6}, FAIL, "not met"),
        ("rf_jsd", {"at_most": "original"}, WARN, "undefined: no class is in both sets"),
        ("zrf", {"at_least": "original"}, PASS, "met"),
        ("zrf", {"within": 0.1, "of": "gold"}, WARN, "there is no gold in this run"),
        ("zrf", {"within": 0.1, "of": "unseen"}, WARN, "zrf of unseen is undefined"),
        ("mia_accuracy", {"at_most": 1}, WARN, "undefined"),
    ],
)
def test_a_gate_passes_warns_or_fails(name: str, gate: dict, status: str, why: str) -> None:
    [result] = apply_gates(Gated.model_validate({"gates": {name: gate}}).gates, FIGURES)
    assert result.status == status
    assert why in result.why


@pytest.mark.parametrize(
    "gate",
    [
        {},
        {"at_most": 1, "at_least": 0},
        {"within": 0.1},
        {"of": "unseen", "at_most": 1},
        {"max": 1},
    ],
)
def test_a_gate_has_one_rule(gate: dict) -> None:
    with pytest.raises(ValidationError):
        Gated.model_validate({"gates": {"zrf": gate}})


def test_gates_are_the_metrics_of_rows() -> None:
    assert set(METRICS) == set(summarise(after(), before()).values)


def test_one_image_cannot_show_much_by_its_loss() -> None:
    """Every resample of one image is that image: its interval was (0.39, 0.57) after, for example.

    For n = 2, √2 times t of one degree of freedom, 12.706, over 1.96 is 9.168.
    """
    roles = np.array(["forget", *["retain"] * 50, *["unseen"] * 100, *["test"] * 100])
    strangers = np.linspace(0.5, 1.5, 200)

    def of(loss: float) -> Outputs:
        losses = np.array([loss, *[0.1] * 50, *strangers])
        return replace(
            before(),
            roles=roles,
            labels=np.zeros(251, int),
            predicted=np.zeros(251, int),
            entropy=losses,
            loss=losses,
            margin=-losses,
            confidence=np.exp(-losses),
        )

    [_, told, *_] = shown = figures(of(0.6), of(1.0), None)
    assert told.before is not None
    assert told.after is not None
    assert round(told.before.value, 2) == 0.9
    assert (told.after.low, told.after.high) == (0.0, 1.0)
    assert verdict(shown).forgetting == "not demonstrated"
    low, high = widened(0.5, 0.49, 0.52, 2)
    assert (round(low, 4), round(high, 4)) == (0.4083, 0.6834)
    assert widened(0.5, 0.1, 0.52, 2)[0] == 0.0
    assert widened(0.5, 0.4, 0.6, 100_000) == pytest.approx((0.4, 0.6), abs=1e-4)
