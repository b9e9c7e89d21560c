"""What the page says of a table in plain words, and where it warns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lotus_ray.report.cautions import cautions
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.finding import findings
from lotus_ray.report.page.tint import LEVELS, tints
from lotus_ray.report.setting_words import setting_in_words
from tests.report.test_statistics import entry, gold, group

COUNTS = {"forget": 100, "retain": 900, "unseen": 50, "test": 50}


def table(
    original: tuple[float, float, float] | None,
    golden: tuple[float, float] | None,
    seeds: int = 3,
    **rivals: tuple[float, float, float],
) -> Group:
    """Return a table of forget accuracy, RF-JSD and JSD; those of gold without JSD, which is 0."""

    def values(forget: float, rf_jsd: float, jsd: float) -> dict[str, list[float]]:
        named = {"forget_acc": forget, "rf_jsd": rf_jsd, "jsd": jsd}
        known = named if golden else {name: v for name, v in named.items() if name != "jsd"}
        return {name: [value] * seeds for name, value in known.items()}

    entries = [entry("Original", values(*original), name="original")] if original else []
    entries += [gold(values(*golden, 0.0))] if golden else []
    entries += [entry(name, values(*each)) for name, each in rivals.items()]
    for each in entries:
        each.samples.update(COUNTS)
    return group(*entries)


def test_the_nearest_to_gold_is_named_beside_the_original() -> None:
    found = findings(table((1.0, 0.24, 0.2), (0.4, 0.02), A=(0.5, 0.1, 0.05), B=(0.9, 0.2, 0.15)))
    assert found == [
        "A comes closest to the gold standard: its JSD is 5.00e-02, 75 % below the untouched "
        "original's 2.00e-01.",
        "Right answers on the forget set: the original 1.000, the gold standard 0.400, A 0.500.",
        "RF-JSD, which needs no gold standard, is lowest for A too.",
    ]


@pytest.mark.parametrize(("seeds", "said"), [(1, "on one seed"), (2, "on two seeds")])
def test_few_seeds_are_an_example(seeds: int, said: str) -> None:
    first, *_, last = findings(
        table((1.0, 0.2, 0.2), (0.4, 0.02), seeds, A=(0.5, 0.1, 0.05), B=(0.9, 0.2, 0.15))
    )
    assert first.startswith(f"A comes closest to the gold standard {said}: ")
    assert last == f"{said.removeprefix('on ').capitalize()}: an example, and no ranking."


def test_five_images_of_difference_are_no_forgetting_and_six_are() -> None:
    """One seed of 100 images: a sign test gives 2/2⁵ = .0625 for five, 2/2⁶ = .031 for six."""
    for answered, starts in ((0.95, "These data show no forgetting"), (0.94, "A comes closest")):
        found = table((1.0, 0.2, 0.2), (answered, 0.02), 1, A=(0.5, 0.1, 0.05))
        assert findings(found)[0].startswith(starts)


def test_no_method_nearer_than_the_original_is_said() -> None:
    found = table((1.0, 0.2, 0.04), (0.4, 0.02), A=(0.5, 0.1, 0.05))
    assert findings(found)[0].startswith("No method comes closer to the gold standard than the unt")
    assert "no method has a lower JSD than the untouched original" in cautions(found, ("jsd",))
    assert cautions(found, ("zrf",)) == []


def test_rf_jsd_that_disagrees_with_gold_is_said() -> None:
    lower = table((1.0, 0.01, 0.2), (0.4, 0.02), A=(0.5, 0.1, 0.05))
    (said,) = [text for text in findings(lower) if "RF-JSD" in text]
    assert said.startswith(
        "RF-JSD and gold disagree: RF-JSD, where low counts as good, is 1.00e-02"
    )
    assert any("RF-JSD misleads here" in text for text in cautions(lower, ("rf_jsd",)))
    other = table((1.0, 0.2, 0.2), (0.4, 0.02), A=(0.5, 0.1, 0.05), B=(0.6, 0.01, 0.1))
    assert (
        "RF-JSD and gold disagree: RF-JSD is lowest for B, and A is nearest to gold."
        in findings(other)
    )
    assert not any("misleads" in text for text in cautions(other, ("rf_jsd",)))


def test_an_original_as_good_as_gold_is_said_by_column() -> None:
    found = table((0.43, 0.2, 0.2), (0.4, 0.02), 1, A=(0.5, 0.1, 0.05))
    assert cautions(found, ("forget_acc",)) == [
        "Forget: the original and the gold standard are fewer than 6 images apart, so a method "
        "that changes nothing looks good"
    ]


def test_an_attack_at_chance_is_no_leak() -> None:
    found = table((1.0, 0.2, 0.2), (0.4, 0.02), 1, A=(0.5, 0.1, 0.05))
    original = found.entries[0]
    original.values["mia_auc_entropy"] = {1: 0.501}
    original.intervals["mia_auc_entropy"] = {1: (0.45, 0.55)}
    (said,) = [text for text in cautions(found, ("mia_acc",)) if "MIA" in text]
    assert said.endswith("(AUC 0.501)")
    original.intervals["mia_auc_entropy"] = {1: (0.55, 0.65)}
    assert not any("MIA" in text for text in cautions(found, ("mia_acc",)))


def test_without_gold_no_method_is_called_the_best() -> None:
    """.83 and .82 of 100 and 50 images: apart by .01, where chance alone gives .13."""
    found = table((0.83, 0.1, 0.0), None, A=(0.8, 0.2, 0.0))
    found.entries[0].values["unseen_acc"] = dict.fromkeys((1, 2, 3), 0.82)
    first, null = findings(found)
    assert first == (
        "There is no gold standard here, so no method can be called the best: RF-JSD of the "
        "untouched original is 1.00e-01, no method has less."
    )
    assert "no better than images it never saw (0.830 and 0.820 right)" in null
    found.entries[0].values["unseen_acc"] = dict.fromkeys((1, 2, 3), 0.5)
    assert len(findings(found)) == 1


def test_smoke_and_nothing_are_said_to_be_so() -> None:
    found = table((1.0, 0.2, 0.2), (0.4, 0.02), A=(0.5, 0.1, 0.05))
    assert findings(replace(found, entries=found.entries[:2])) == [
        "No unlearning method has a result here."
    ]
    rows = found.entries[0].rows
    rows[1] = replace(rows[1], smoke=True)
    assert findings(found)[0].startswith("A smoke test")


def test_tints_are_full_within_chance_and_none_for_the_farthest() -> None:
    """Three seeds of 100 images: 5 of 300 are .0167; .36 of .6 is a share of .6, root .77."""
    found = table((1.0, 0.2, 0.2), (0.4, 0.02), A=(0.41, 0.1, 0.05), B=(0.76, 0.2, 0.1))
    assert tints(found, "forget_acc") == {"Original": 0, "Gold Std": LEVELS, "A": LEVELS, "B": 1}
    assert tints(found, "jsd") == {"Original": 0, "Gold Std": LEVELS, "A": 2, "B": 1}
    assert tints(found, "unlearn_seconds") == {}
    assert tints(table((1.0, 0.2, 0.2), None), "forget_acc") == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("instance_10pct", "10 % of each class forgotten"),
        ("instance_1perclass", "1 image of each class forgotten"),
        ("instance_5perclass_retain45",
         "5 images of each class forgotten, 45 of the others of each class retained"),
        ("class_3_5", "classes 3, 5 forgotten"),
        ("corrupted_noise20pct", "images with wrong labels forgotten, 20 % of the labels wrong"),
        ("instance_10pct_subset100+all_smoke4",
         "10 % of each class forgotten, 100 training and all held-out images of each class, "
         "smoke test: 4 images of each role"),
        ("instance_mufac_fixed16pct", "instance_mufac_fixed16pct"),
        ("my own <b>", "my own <b>"),
    ],
)  # fmt: skip
def test_settings_in_words(name: str, words: str) -> None:
    assert setting_in_words(name) == words


def test_a_table_without_rows_of_an_original_has_no_caution() -> None:
    assert cautions(Group("B", "M", "S", ()), ("rf_jsd", "jsd", "mia_acc")) == []
    assert isinstance(entry("A", {}), Entry)
