"""The published figures: shipped as they are, matched to the configurations that jobs have."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lotus_ray.job.load import load_job
from lotus_ray.job.method_entry import MethodEntry
from lotus_ray.job.method_spec import describe
from lotus_ray.report.columns import METRICS
from lotus_ray.report.published import SOURCES, TABLE, nearest_key, published_lines
from lotus_ray.report.published.configurations import (
    CALIBRATED,
    NAMES,
    configuration,
    label_of,
    settings_of,
)
from lotus_ray.report.published.defects import DEFECTS
from tests.job.test_paper_jobs import FILES, JOBS

PAPER_JOBS = [path for path in FILES if not path.stem.startswith("digits")]
IMAGENET = ("ImageNet-1K", "ViT-B/16", "instance_5perclass_retain45")
CIFAR10 = ("CIFAR-10", "ResNet18", "instance_10pct")
# Hyper-parameters of which the paper's comparison says nothing, or not of every benchmark.
UNTOLD = {"version", "crop_padding", "flip", "inner.version", "retain_per_class"}
UNTOLD_OF = {("unsir", "weight_decay")}


def lines(source: str, key: tuple[str, str, str]) -> dict[str, dict[str, str]]:
    """Return the printed means of each method."""
    return {
        line.method: {name: figure.mean_text for name, figure in line.figures.items()}
        for line in published_lines(source, key)
    }


def rows(source: str) -> list[dict[str, str]]:
    text = files("lotus_ray.report.published").joinpath(SOURCES[source]).read_text()
    return list(csv.DictReader(text.splitlines()))


def batch_of(entry: MethodEntry) -> dict[str, Any]:
    trains_with_the_job = entry.method.name not in ("original", "gold")
    return {"batch_size": entry.batch_size} if trains_with_the_job else {}


def test_files_are_shipped_whole() -> None:
    """867 and 1,953 rows, counted in the files as they were given."""
    assert {source: len(rows(source)) for source in SOURCES} == {"paper": 867, "notebooks": 1953}
    assert list(rows("paper")[0])[:7] == [
        *("benchmark", "model", "setting", "method", "metric", "mean", "std"),
    ]


def test_imagenet_as_on_the_slides() -> None:
    found = lines("paper", IMAGENET)
    assert found["LoTUS"] == {
        "rf_jsd_x1e4": "1.11",
        "time_min": "10.72",
        "retain_acc": "0.94",
        "mia_acc": "0.61",
    }
    assert found["SalUn(RL)"]["time_min"] == "59.27"
    assert "time_min" not in found["Original"]
    assert len(found) == 10
    (lotus,) = [line for line in published_lines("paper", IMAGENET) if line.label == "LoTUS"]
    figure = lotus.figures["rf_jsd_x1e4"]
    assert (figure.mean, figure.std, figure.source) == (1.11, 0.01, "paper Table 4")


def test_the_main_table_is_the_source_of_what_is_printed_twice() -> None:
    """CIFAR-10 has Avg Gap in Tables 2 and 6, the accuracies in Table 6 alone."""
    (found,) = [line for line in published_lines("paper", CIFAR10) if line.label == "SCRUB"]
    assert found.figures["avg_gap"].source == "paper Table 2"
    assert found.figures["avg_gap"].mean_text == "0.0750"
    assert found.figures["mia_acc"].source == "paper Table 6"


def test_no_figure_is_printed_with_two_values() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for row in rows("paper"):
        key = tuple(list(row.values())[:5])
        assert float(seen.setdefault(key, row["mean"])) == float(row["mean"])
    assert len(seen) < len(rows("paper"))


def test_names_of_one_configuration_are_one_line() -> None:
    """LoTUS(gumbel) of Table 10 is LoTUS of Table 2; the notebooks' α = 8 is the main one too."""
    paper, notebooks = lines("paper", CIFAR10), lines("notebooks", CIFAR10)
    assert {name for name in paper if "LoTUS" in name} == {
        *("LoTUS", "LoTUS(CIFAKE)", "LoTUS(softmax-T)"),
    }
    assert {name for name in notebooks if name.startswith("LoTUS")} == {
        *("LoTUS", "LoTUS(CIFAKE)", "LoTUS(alpha=2)", "LoTUS(alpha=4)", "LoTUS(alpha=16)"),
    }
    assert paper["LoTUS"]["jsd_x1e4"] == "0.32"
    assert paper["LoTUS(softmax-T)"] == {"jsd_x1e4": "0.41", "avg_gap": "0.0675"}


def test_per_cent_of_the_notebooks_are_shares_here() -> None:
    """95.37 % are .9537; the notebooks' raw RF-JSD, whose unit is not told, is left out."""
    found = lines("notebooks", ("TinyImageNet", "ResNet18", "instance_10pct"))
    assert found["Original"]["mia_acc"] == "0.9537"
    beaver = lines("notebooks", ("CIFAR-100", "ResNet18", "class_beaver"))
    assert "LoTUS" in beaver
    assert not any("rf_jsd" in name for figures in beaver.values() for name in figures)


def test_every_published_method_and_column_is_known() -> None:
    for source in SOURCES:
        for row in rows(source):
            assert label_of(row["method"]) in NAMES or row["method"] == "(all methods)"
    assert {row["metric"] for row in rows("paper")} <= set(TABLE) <= set(METRICS)


def test_the_nearest_is_told_of_what_is_not_published() -> None:
    assert published_lines("paper", ("CIFAR10", "ResNet18", "instance_10pct")) == []
    assert nearest_key("paper", ("CIFAR10", "resnet-18", "instance_10pct")) == CIFAR10
    assert nearest_key("notebooks", ("imagenet", "vit_b_16", "instance_5perclass")) == IMAGENET


def test_configurations_of_lotus_by_hand() -> None:
    """α is 8 on CIFAR-10 with ResNet-18, 32 where a class is forgotten, else 2."""
    alpha = {
        key: configuration("LoTUS", *key)["alpha"]
        for key in (CIFAR10, IMAGENET, ("CIFAR-10", "ResNet18", "class_cat"))
    }
    assert list(alpha.values()) == [8, 2, 32]
    softmax = configuration("LoTUS(softmax-T)", *CIFAR10)
    assert (softmax["variant"], softmax["alpha"]) == ("softmax", 8)
    assert configuration("LoTUS(alpha=4)", *CIFAR10)["alpha"] == 4
    assert configuration("SalUn(LoTUS)", *CIFAR10)["inner.alpha"] == 8
    assert configuration("SalUn(RL)", *CIFAR10)["inner.name"] == "relabel"
    assert configuration("LoTUS(CIFAKE)", *CIFAR10)[CALIBRATED]


@pytest.mark.parametrize("path", PAPER_JOBS, ids=lambda path: path.stem)
def test_jobs_have_the_names_and_configurations_of_what_is_published(path: Path) -> None:
    """Each job's lines are found by name; each published method is one of its cells."""
    loaded = load_job(path)
    (model,) = loaded.job.grid.models
    (entries,) = loaded.entries
    for dataset in loaded.job.grid.datasets:
        setting = dataset.setting_name.partition("_calibrated-")[0]
        key = (dataset.name, model.label or "", setting)
        known = published_lines("paper", key) or published_lines("notebooks", key)
        assert known, key
        shared: dict[str, Any] = {
            "model": {"name": model.name, "options": model.options},
            "transform": dataset.transform_for(model.preparation).spec(),
            "precision": loaded.job.precision,
        }
        if dataset.calibration:
            shared["calibration"] = {}
        found = [
            settings_of({"method": describe(entry.method), **shared, **batch_of(entry)})
            for entry in entries
        ]
        names = {settings["name"] for settings in found}
        for line in known:
            if line.configuration["name"] not in names or "(" in line.method.replace("(RL)", ""):
                continue
            wanted = line.configuration | ({CALIBRATED: True} if dataset.calibration else {})
            equal = [s for s in found if all(s.get(name) == v for name, v in wanted.items())]
            assert len(equal) == 1, (line.method, wanted, found)


def test_a_hyper_parameter_that_no_configuration_tells_is_known_here() -> None:
    """A new one is to be told in `configuration`, or variants that differ in it look published."""
    (methods,) = load_job(JOBS / "cifar10-resnet18.yaml").methods
    published = {label_of(row["method"]) for row in rows("paper")}
    for method in methods:
        if method.label not in published:
            continue
        spec = {"method": describe(method), "model": {"name": ""}}
        told = configuration(method.label, *CIFAR10)
        untold = set(settings_of(spec)) - set(told) - UNTOLD - {CALIBRATED}
        assert {(method.name, name) for name in untold} <= UNTOLD_OF


def test_defects_touch_what_is_published() -> None:
    labels = {label_of(row["method"]) for row in rows("paper")}
    keys = {(row["benchmark"], row["model"], row["setting"]) for row in rows("paper")}
    for defect in DEFECTS:
        assert set(defect.methods) <= labels
        assert set(defect.metrics) <= set(TABLE)
        assert any(defect.touches_table(*key) for key in keys)
    assert len({defect.text for defect in DEFECTS}) == len(DEFECTS)


def test_avg_gap_is_of_rounded_accuracies() -> None:
    """A mean of four numbers of two decimals is a multiple of .0025."""
    gaps = [float(row["mean"]) for row in rows("paper") if row["metric"] == "avg_gap"]
    assert len(gaps) > 200
    assert all(abs(gap / 0.0025 - round(gap / 0.0025)) < 1e-9 for gap in gaps)
