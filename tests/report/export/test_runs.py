from __future__ import annotations

import math
from pathlib import Path

import pytest

from lotus_ray.report.export.runs import CellRun, runs_of
from lotus_ray.report.export.secrets import redact, redact_value
from lotus_ray.store.results import Store
from tests.stores import FIRST, LAST, commit

AT = "2026-01-02T00:00:00+00:00"  # 1767312000 s since 1970
PEM = "-----BEGIN {0}PRIVATE KEY-----\nMII\n-----END {0}PRIVATE KEY----- is bad"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store.open(str(tmp_path / "store"))
    opened.check_writable()
    return opened


def run_of(store: Store, method: str = "LoTUS") -> CellRun:
    """Return the only run of a method."""
    (found,) = [run for run in runs_of(store) if run.method == method]
    return found


def test_a_run_began_as_long_before_its_commit_as_it_measured(store: Store) -> None:
    """1 s of preparing, 60 s of unlearning and 2 s of evaluating before 1767312000 s."""
    commit(store, "lotus", committed_at=AT)
    run = run_of(store)
    assert (run.started_at, run.ended_at) == (1767311937, 1767312000)


def test_a_run_has_the_figures_of_the_report_and_those_it_does_not_show(store: Store) -> None:
    commit(store, "original")
    commit(store, "gold", probs=FIRST)
    commit(
        store,
        "lotus",
        probs=LAST,
        metrics={"rf_jsd_classes": 10.0, "forget_accuracy": 0.25},
        counters={"student_forwards": 7},
        intervals={"forget_accuracy": [0.2, 0.3]},
    )
    metrics = run_of(store).metrics
    assert math.isclose(metrics["jsd"], math.log(2))
    assert math.isclose(metrics["avg_gap"], 0.25 / 4)
    assert metrics["forget_acc"] == 0.25
    assert "forget_accuracy" not in metrics
    assert metrics["rf_jsd_classes"] == 10
    assert metrics["counters/student_forwards"] == 7
    assert (metrics["ci95/forget_acc/low"], metrics["ci95/forget_acc/high"]) == (0.2, 0.3)


def test_what_is_undefined_is_a_tag_of_the_seeds_that_lack_it(store: Store) -> None:
    commit(store, "gold", 1)
    for seed in (1, 2):
        commit(store, "original", seed)
        commit(store, "lotus", seed)
    first, second = [run for run in runs_of(store) if run.method == "LoTUS"]
    assert "undefined" not in first.tags
    assert "jsd: there is no gold standard of this seed" in second.tags["undefined"]
    assert "jsd" not in second.metrics


def test_settings_are_flat_and_what_is_no_number_or_text_is_json(store: Store) -> None:
    commit(store, "lotus", params={"alpha": 8.0, "classes": [1, 2], "cut": None, "on": True})
    params = run_of(store).params
    assert params["method.alpha"] == 8.0
    assert params["method.classes"] == "[1, 2]"
    assert params["method.cut"] == "null"
    assert params["method.on"] is True
    assert params["model.name"] == "net"


def test_variants_are_runs_of_the_names_that_the_report_gives_them(store: Store) -> None:
    for alpha in (2.0, 8.0):
        commit(store, "lotus", params={"alpha": alpha})
    assert [run.name for run in runs_of(store)] == [
        "LoTUS(alpha=2.0), seed 1",
        "LoTUS(alpha=8.0), seed 1",
    ]


def test_a_failed_cell_has_its_error_and_no_metrics(store: Store) -> None:
    commit(store, "lotus", error="loss became nan\nat step 3")
    run = run_of(store)
    assert not run.is_ok
    assert run.metrics == {}
    assert run.failure == "diverged: Diverged: loss became nan\nat step 3"
    assert run.tags["error"] == "diverged: Diverged: loss became nan"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:pa/ss@bucket/x is gone", "s3://***@bucket/x is gone"),
        ("http://user:p@ss@host:5000", "http://***@host:5000"),
        ("https://host/x?X-Amz-Signature=abc&part=1", "https://host/x?X-Amz-Signature=***&part=1"),
        ("AWS_SECRET_ACCESS_KEY=abc, region=eu", "AWS_SECRET_ACCESS_KEY=***, region=eu"),
        ("{'password': 'abc'}", "{'password': '***'}"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: ***"),
        ("got bearer abcdefgh.ij", "got bearer ***"),
        ("https://a.net/x?se=1&sig=abc%3D&sp=r", "https://a.net/x?se=1&sig=***&sp=r"),
        ("Uid=me;Pwd=abc;PASSWD=abc", "Uid=me;Pwd=***;PASSWD=***"),
        ('{"private_key": "abc"}', '{"private_key": "***"}'),
        (PEM.format("RSA "), "*** is bad"),
        (f"key AKIA{'A1' * 8} and ASIA{'B2' * 8}.", "key *** and ***."),
        (f"hf_{'aB3' * 10} is refused, hf_hub is not", "*** is refused, hf_hub is not"),
        ("hub_token=abc accessToken: abc", "hub_token=*** accessToken: ***"),
        ("max_tokens=512, tokenizer=bert, sigma=2", "max_tokens=512, tokenizer=bert, sigma=2"),
        ("LoTUS(class_token=true, lr=0.1)", "LoTUS(class_token=true, lr=0.1)"),
        ("a\x00b\ud800c\td\n", "a�b�c\td\n"),
    ],
)
def test_secrets_and_unwritable_characters_are_not_told(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_setting_whose_name_says_secret_is_not_told() -> None:
    assert redact_value("model.options.api_key", "abc") == "***"
    assert redact_value("model.options.private_key", "abc") == "***"
    assert redact_value("model.options.max_tokens", "512") == "512"
    assert redact_value("model.options.class_token", True) is True
    assert redact_value("model.options.global_pool", "token") == "token"


def test_secrets_of_a_failure_reach_no_run(store: Store) -> None:
    commit(store, "lotus", error="cannot read s3://AKIA:pa55@bucket/data?token=pa55")
    assert "pa55" not in repr(run_of(store))
