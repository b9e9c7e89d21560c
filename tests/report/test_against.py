"""Measured lines beside published ones."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from lotus_ray.report.against import Pair, beside
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.formats import FORMATS, to_csv, to_json, to_latex, to_table
from lotus_ray.report.published.configurations import NAMES, configuration
from lotus_ray.store.row import OK, Row

IMAGENET = ("ImageNet-1K", "ViT-B/16", "instance_5perclass_retain45")
CIFAR10 = ("CIFAR-10", "ResNet18", "instance_10pct")
UNITS = "59.27 min of SalUn"


def entry(
    key: tuple[str, str, str],
    label: str,
    published: str | None = None,
    *,
    name: str | None = None,
    values: dict[str, float] | None = None,
    options: dict[str, Any] | None = None,
    **different: Any,
) -> Entry:
    """Return a line of the configuration of a published method, but for what is different."""
    setting = key[2].partition("_")[0] + "_" + key[2].partition("_")[2].partition("_cal")[0]
    settings = configuration(published or label, *key[:2], setting) | different
    settings.pop("model.options")
    spec: dict[str, Any] = {
        "model": {"name": settings.pop("model"), "options": options},
        "transform": {"img_size": settings.pop("image_size")},
        "precision": settings.pop("precision"),
    }
    if "original" not in settings["name"] and "gold" not in settings["name"]:
        spec["batch_size"] = settings.pop("batch_size")
    if settings.pop("calibrated", False):
        spec["calibration"] = "digest"
    inner = {k.removeprefix("inner."): v for k, v in settings.items() if k.startswith("inner.")}
    method = {k: v for k, v in settings.items() if not k.startswith("inner.")}
    spec["method"] = method | ({"inner": inner} if inner else {})
    row = Row(method=label, status=OK, spec=spec)
    by_seed = {metric: {7: value} for metric, value in (values or {"time_min": 2.0}).items()}
    return Entry(*key, name or label, {7: row}, by_seed)


def group(*entries: Entry) -> Group:
    first = entries[0]
    return Group(first.benchmark, first.model, first.setting, entries)


def pairs(*entries: Entry, source: str = "paper") -> dict[str, str]:
    """Return which published line stands under which measured one; unmeasured ones under ''."""
    found = {}
    for pair in beside(group(*entries), source).pairs:
        line = pair.line.method if pair.line else "-"
        found[pair.method if pair.entry else f"({line})"] = line
    return found


def test_imagenet_lotus_by_hand() -> None:
    """RF-JSD ×1e4 of 1.11 ± 0.01, 10.72 min; MIA .61: as on the authors' slides."""
    view = beside(group(entry(IMAGENET, "LoTUS")), "paper")
    assert view.metrics == ("rf_jsd_x1e4", "time_min", "retain_acc", "mia_acc")
    (pair,) = [pair for pair in view.pairs if pair.entry]
    assert pair.line is not None
    shown = {name: (f.mean, f.std) for name, f in pair.line.figures.items()}
    assert shown["rf_jsd_x1e4"] == (1.11, 0.01)
    assert shown["time_min"] == (10.72, 0.01)
    assert shown["mia_acc"] == (0.61, 0.01)
    assert pair.differences == ()
    labels = [pair.label for pair in view.pairs]
    assert labels == [label for label in NAMES if label != "Gold Std"]


def test_published_salun_is_ours_and_its_time_has_a_footnote() -> None:
    table = to_table([entry(IMAGENET, "SalUn", "SalUn(RL)")], "paper").splitlines()
    place = next(place for place, line in enumerate(table) if line.startswith("SalUn"))
    assert "published as SalUn(RL)" in table[place + 1]
    letter = table[place + 1].partition("59.27 ±0.37 [")[2][0]
    (footnote,) = [line for line in table if line.startswith(f"[{letter}]")]
    assert UNITS in footnote
    assert sum(UNITS in line for line in table) == 1


def test_salun_over_lotus_stands_beside_its_own_published_line() -> None:
    key = ("TinyImageNet", "ResNet18", "instance_10pct")
    over_lotus = entry(key, "SalUn + LoTUS", "SalUn(LoTUS)")
    assert over_lotus.label == "SalUn"
    found = pairs(entry(key, "SalUn", "SalUn(RL)"), over_lotus, source="notebooks")
    assert (found["SalUn"], found["SalUn + LoTUS"]) == ("SalUn(RL)", "SalUn(LoTUS)")


def test_units_of_time_are_of_two_methods_alone() -> None:
    view = beside(group(entry(IMAGENET, "LoTUS")), "paper")
    touched = {
        (pair.label, metric)
        for pair in view.pairs
        for metric in view.metrics
        if any(UNITS in text for text in view.texts(pair, metric))
    }
    assert touched == {("SalUn", "time_min"), ("Bad Teacher", "time_min")}


def test_letters_are_those_that_occur_in_their_order() -> None:
    view = beside(group(entry(IMAGENET, "LoTUS")), "paper")
    letters = [note.letter for note in view.footnotes if note.letter]
    assert letters == list("abcdefghijkl")
    assert "BatchNorm" not in " ".join(note.text for note in view.footnotes)
    assert "crane" in view.footnotes[-1].text
    assert view.footnotes[-1].letter == ""
    resnet = beside(group(entry(CIFAR10, "LoTUS")), "paper")
    assert "BatchNorm" in " ".join(note.text for note in resnet.footnotes)
    assert "crane" not in " ".join(note.text for note in resnet.footnotes)


def test_letters_stand_at_columns_lines_or_figures() -> None:
    view = beside(group(entry(IMAGENET, "LoTUS")), "paper")
    by_label = {pair.label: pair for pair in view.pairs}
    text = {note.letter: note.text for note in view.footnotes}
    assert "full matrix" in text[view.letters_of_metric("rf_jsd_x1e4")]
    assert "A6000" in text[view.letters_of_metric("time_min")]
    assert "the returned one is the original" in text[view.letters_of_line(by_label["SCRUB"])]
    assert UNITS in text[view.letters_of_figure(by_label["SalUn"], "time_min")]
    assert view.letters_of_figure(by_label["SalUn"], "retain_acc") == ""
    assert view.letters_of_line(by_label["Finetuning"]) == ""


def test_variants_are_matched_by_their_settings() -> None:
    found = pairs(
        entry(CIFAR10, "LoTUS", name="LoTUS(alpha=2)", alpha=2),
        entry(CIFAR10, "LoTUS", name="LoTUS(alpha=8)"),
        entry(CIFAR10, "LoTUS", name="LoTUS(variant=softmax)", variant="softmax"),
        entry(CIFAR10, "LoTUS", name="LoTUS(retain_fraction=1)", retain_fraction=1.0),
    )
    assert {name: line for name, line in found.items() if name.startswith("LoTUS")} == {
        "LoTUS(alpha=2)": "-",
        "LoTUS(alpha=8)": "LoTUS",
        "LoTUS(variant=softmax)": "LoTUS(softmax-T)",
        "LoTUS(retain_fraction=1)": "-",
    }
    assert len(found) == 4 + 9
    assert "(LoTUS(CIFAKE))" not in found


def test_the_notebooks_tuning_is_matched_too() -> None:
    found = pairs(
        entry(CIFAR10, "LoTUS", name="LoTUS(alpha=2)", alpha=2),
        entry(CIFAR10, "LoTUS", name="LoTUS(alpha=8)"),
        source="notebooks",
    )
    assert found["LoTUS(alpha=2)"] == "LoTUS(alpha=2)"
    assert found["LoTUS(alpha=8)"] == "LoTUS"
    assert "(LoTUS(alpha=4))" in found


def test_synthetic_calibration_is_compared_with_its_own() -> None:
    key = (*CIFAR10[:2], "instance_10pct_calibrated-synthetic")
    found = pairs(entry(key, "Gold Std"), entry(key, "LoTUS", "LoTUS(CIFAKE)"))
    assert found == {"Gold Std": "Gold Std", "LoTUS": "LoTUS(CIFAKE)"}


def test_a_control_is_not_taken_for_a_published_line() -> None:
    found = pairs(
        entry(CIFAR10, "Gold Std"),
        entry(CIFAR10, "Gold Std", name="Gold Std(training_seed=1)", training_seed=1),
        entry(CIFAR10, "Finetuning"),
        entry(CIFAR10, "Finetuning", name="Finetuning(head_only=true)", head_only=True),
    )
    assert found["Gold Std(training_seed=1)"] == found["Finetuning(head_only=true)"] == "-"
    assert (found["Gold Std"], found["Finetuning"]) == ("Gold Std", "Finetuning")


def test_the_only_variant_is_compared_with_a_note_on_what_differs() -> None:
    view = beside(group(entry(CIFAR10, "SCRUB", lr=0.01, precision="bf16")), "paper")
    (pair,) = [pair for pair in view.pairs if pair.entry]
    assert pair.line is not None
    assert pair.line.method == "SCRUB"
    assert set(pair.differences) == {
        *("lr=0.01 (published: 0.0005)", "precision=bf16 (published: fp32)"),
    }
    assert (
        "measured with other settings than published: lr=0.01 (published: 0.0005): SCRUB"
        in view.notes
    )


def test_another_width_and_image_size_are_told() -> None:
    """A tenth of the pixels and of the weights is not what is published."""
    lotus = entry(CIFAR10, "LoTUS", options={"width": 4})
    view = beside(group(lotus, entry(CIFAR10, "SCRUB", image_size=28)), "paper")
    prefix = "measured with other settings than published: "
    assert {note for note in view.notes if note.startswith(prefix)} == {
        f'{prefix}model.options={{"width": 4}} (published: default): LoTUS',
        f"{prefix}image_size=28 (published: 32): SCRUB",
    }


def test_the_closest_variant_is_compared_and_equals_are_not() -> None:
    closest = pairs(
        entry(CIFAR10, "LoTUS", name="a", precision="bf16"),
        entry(CIFAR10, "LoTUS", name="b", precision="bf16", alpha=2),
        entry(CIFAR10, "LoTUS", name="c", precision="bf16", variant="softmax"),
    )
    assert (closest["a"], closest["b"], closest["c"]) == ("LoTUS", "-", "LoTUS(softmax-T)")
    equals = pairs(
        entry(CIFAR10, "LoTUS", name="a", alpha=2), entry(CIFAR10, "LoTUS", name="b", alpha=4)
    )
    assert (equals["a"], equals["b"]) == ("-", "-")
    assert "(LoTUS)" in equals


def test_variants_of_one_configuration_all_have_the_published_line() -> None:
    """Rivals of two originals differ in nothing that is their own."""
    found = pairs(entry(CIFAR10, "LoTUS", name="a"), entry(CIFAR10, "LoTUS", name="b"))
    assert (found["a"], found["b"]) == ("LoTUS", "LoTUS")


@pytest.mark.parametrize("setting", ["instance_7pct", "instance_10pct_calibrated-x_smoke20"])
def test_what_is_not_published_is_said_with_the_nearest(setting: str) -> None:
    found = entry(CIFAR10, "LoTUS")
    other = Entry("CIFAR-10", "ResNet18", setting, "LoTUS", found.rows, found.values)
    view = beside(group(other), "paper")
    assert [pair.line for pair in view.pairs] == [None]
    (note,) = view.notes
    assert note.startswith("the paper has nothing on this table; nearest: CIFAR-10, ResNet18")
    for form in FORMATS.values():
        assert "LoTUS" in form([other], "paper")


def test_the_table_shows_what_is_published_as_printed_and_what_is_not_measured() -> None:
    table = to_table([entry(IMAGENET, "LoTUS", values={"time_min": 3.0})], "paper").splitlines()
    place = next(place for place, line in enumerate(table) if line.startswith("LoTUS"))
    assert table[place].split() == ["LoTUS", "-", "3.00", "-", "-", "1"]
    assert table[place + 1].split()[0] == "published"
    assert "1.11 ±0.01" in table[place + 1]
    assert "10.72 ±0.01" in table[place + 1]
    place = next(place for place, line in enumerate(table) if line.startswith("SCRUB"))
    assert table[place].split() == ["SCRUB", "-", "-", "-", "-", "0"]
    assert "24.49 ±0.03" in table[place + 1]


def test_csv_has_the_published_columns_only_where_asked() -> None:
    found = entry(IMAGENET, "LoTUS", values={"time_min": 3.0, "rf_jsd": 0.5, "rf_jsd_x1e4": 1.2})
    plain = to_csv([found]).splitlines()[0]
    assert plain == "benchmark,model,setting,method,metric,mean,std,n"
    text = to_csv([found], "paper")
    assert text.splitlines()[0] == f"{plain},published_mean,published_std,source,footnotes"
    rows = {(r["method"], r["metric"]): r for r in csv.DictReader(io.StringIO(text))}
    assert rows["LoTUS", "rf_jsd_x1e4"]["mean"] == "1.2"
    assert rows["LoTUS", "rf_jsd_x1e4"]["published_mean"] == "1.11"
    assert rows["LoTUS", "rf_jsd_x1e4"]["published_std"] == "0.01"
    assert rows["LoTUS", "rf_jsd_x1e4"]["source"] == "paper Table 4"
    assert "full matrix" in rows["LoTUS", "rf_jsd_x1e4"]["footnotes"]
    assert rows["LoTUS", "rf_jsd"]["published_mean"] == ""
    salun = rows["SalUn(RL)", "time_min"]
    assert (salun["mean"], salun["n"], salun["published_mean"]) == ("", "0", "59.27")
    assert any(UNITS in text for text in salun["footnotes"].split(" | "))
    assert len(rows) == 3 + 39 - 2, "39 are published, of which 2 are measured"


def test_json_has_the_published_figures_too() -> None:
    rows = json.loads(to_json([entry(IMAGENET, "SalUn", "SalUn(RL)")], "paper"))
    by_name = {(row["method"], row["metric"]): row for row in rows}
    time = by_name["SalUn", "time_min"]
    assert (time["mean"], time["published_mean"], time["published_std"]) == (2.0, 59.27, 0.37)
    assert any(UNITS in text for text in time["footnotes"])
    lotus = by_name["LoTUS", "time_min"]
    assert (lotus["mean"], lotus["n"], lotus["published_mean"]) == (None, 0, 10.72)
    assert "published_mean" not in json.loads(to_json([entry(IMAGENET, "LoTUS")]))[0]


def test_latex_indents_published_lines_and_lists_footnotes_once() -> None:
    text = to_latex([entry(IMAGENET, "SalUn", "SalUn(RL)")], "paper")
    assert r"\quad published as SalUn(RL)" in text
    assert r"59.27$_{\pm 0.37}$\textsuperscript{d}" in text
    assert text.count(UNITS) == 1


def test_a_line_of_neither_has_no_footnotes() -> None:
    view = beside(group(entry(IMAGENET, "LoTUS")), "paper")
    assert view.texts(Pair(entry(IMAGENET, "LoTUS"), None), "time_min") == []
    assert view.letters_of_figure(Pair(None, None), "time_min") == ""
