"""Numbers, texts and merge keys as people write them in a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lotus_ray.base.errors import DataError, JobError
from lotus_ray.base.roles import FORGET
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import parse
from tests import standins

JOB = """store: runs
epochs: 1
grid:
  methods: [original]
  datasets:
    - {name: digits, source: digits, forget: {fraction: 0.1}, img_size: 8}
  models:
    - {name: resnet18_cifar, label: a, train: &recipe {epochs: 1, lr: 0.1, batch_size: 64}}
    - {name: resnet18_cifar, label: b, options: {width: 4}, train: {<<: *recipe, lr: 5e-2}}
  seeds: [1]
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-1", 0.1),
        ("-2.5E+3", -2500.0),
        (".5e1", 5.0),
        ("1.e-4", 1e-4),
        ('"1e-1"', "1e-1"),
        ("1e", "1e"),
        ("00014", "00014"),
        ("010", "010"),
        ("-010", "-010"),
        ("12:30", "12:30"),
        ("0x10", "0x10"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1_0.5", "1_0.5"),
        ("0", 0),
        ("10", 10),
        ("-7", -7),
        ("0.5", 0.5),
        ("n1e4b", "n1e4b"),
    ],
)
def test_a_number_is_a_number_and_leading_zeros_are_text(text: str, value: Any) -> None:
    found = parse(f"a: [{text}]", "job.yaml")[0]["a"][0]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["12e4", "1e-1", "00014", "12:30", "no", "<<", "a\nb ", "é: #"])
def test_a_text_of_a_dictionary_stays_text(text: str) -> None:
    """PyYAML writes 12e4 without quotes: for it that is no number."""
    assert Document.of({"a": text, "b": [text, 1e-7, 3, None, True]}).values == {
        "a": text,
        "b": [text, 1e-7, 3, None, True],
    }


def test_set_reads_values_in_the_same_way() -> None:
    document = Document("job.yaml", "a: 1\nb: 1\n")
    document.override("a=00014")
    document.override("b=1e-1")
    assert document.values == {"a": "00014", "b": 0.1}


@pytest.mark.parametrize(("text", "meant"), [("010", "10"), ("1_000", "1000"), ("0x10", "16")])
def test_a_seed_that_is_a_text_is_no_other_seed(text: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB.replace("[1]", f"[{text}]"))
    with pytest.raises(JobError) as raised:
        load_job(tmp_path / "job.yaml")
    assert raised.value.where.endswith("grid.seeds[0]")
    assert raised.value.nearest == meant


def test_a_class_with_leading_zeros_is_the_class_of_that_name(tmp_path: Path) -> None:
    """Folders as of traffic signs: 00014 was read as the octal number 12."""
    for label, name in enumerate(("00012", "00014", "12")):
        for split, count in (("train", 3), ("val", 2)):
            for number in range(count):
                path = tmp_path / "raw" / split / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                standins.write_jpeg(path, label, number + 10 * count, (9, 9))
    data = tmp_path / "data"
    prepare(SOURCES["image_folder"], data, tmp_path / "raw")
    job = JOB.replace("source: digits", f"manifest: {data}").replace(
        "{fraction: 0.1}", "{classes: [X]}"
    )
    for written, forgotten in (("00014", "00014"), ("00012", "00012"), ("12", "12")):
        (tmp_path / "job.yaml").write_text(job.replace("X", written))
        loaded = load_job(tmp_path / "job.yaml")
        planned = plan(loaded, [read_manifest(data)])
        roles = planned.roles[planned.groups[0].roles_name]
        ids = [roles.sample_ids[row] for row in roles.indices(FORGET)]
        assert len(ids) == 3
        assert all(f"/{forgotten}/" in sample_id for sample_id in ids)
    (tmp_path / "job.yaml").write_text(job.replace("X", "014"))
    with pytest.raises(DataError, match="no class '014'"):
        plan(load_job(tmp_path / "job.yaml"), [read_manifest(data)])


def test_merge_keys_are_merged_and_own_values_win(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    loaded = load_job(tmp_path / "job.yaml")
    recipes = [model.train for model in loaded.job.grid.models]
    assert recipes[1] == {**recipes[0], "lr": 0.05}
    path = ("grid", "models", 1, "train")
    assert loaded.document.where((*path, "lr")).startswith(f"{tmp_path / 'job.yaml'}:9")
    assert loaded.document.where((*path, "epochs")).startswith(f"{tmp_path / 'job.yaml'}:8")


def test_of_several_merged_mappings_the_first_wins() -> None:
    text = "a: &a {x: {p: 1}, y: 1}\nb: &b {x: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\n"
    assert parse(text, "")[0]["c"] == {"x": {"p": 1}, "y": 1, "z": 3}
    with pytest.raises(JobError, match="<< takes a mapping"):
        parse("a: {<<: 5}", "job.yaml")
    with pytest.raises(JobError, match="duplicate key 'x'"):
        parse("a: &a {x: 1}\nb: {<<: *a, x: 1, x: 2}", "job.yaml")
    assert parse('"<<": 5', "")[0] == {"<<": 5}


def test_merge_keys_cannot_multiply_without_end() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [
        f"a{n}: &a{n} {{<<: [{{x: [{', '.join([f'*a{n - 1}'] * 9)}]}}]}}" for n in range(1, 9)
    ]
    with pytest.raises(JobError, match="too many values"):
        parse("\n".join(lines), "job.yaml")
