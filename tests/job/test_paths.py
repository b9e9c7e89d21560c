"""Paths of a job begin in the current folder; a file beside the job is pointed at."""

from __future__ import annotations

from pathlib import Path

import pytest

from lotus_ray.base.errors import JobError
from lotus_ray.job.load import load_job

JOB = """\
store: runs
epochs: 1
grid:
  methods: [original]
  datasets: [{name: A, DATA, img_size: 8}]
  models: [{name: resnet18_cifar, train: {epochs: 1, lr: 0.1}}]
  seeds: [1]
"""


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ("manifest: x, forget: {fraction: 0.1}", "manifest"),
        ("source: digits, forget: {ids: x}", "forget.ids"),
        ("source: digits, forget: {by: x, key: user, values: [1]}", "forget.by"),
        (
            "source: digits, forget: {per_class: 1}, retain: {without: x}",
            "retain.without",
        ),
        ("parquet: {train: [x], heldout: [hf://y]}, forget: {per_class: 1}", "parquet.train[0]"),
        ("parquet: {repository: x}, forget: {per_class: 1}", "parquet.repository"),
    ],
)
def test_a_file_beside_the_job_is_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, key: str
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/job.yaml").write_text(JOB.replace("DATA", data))
    monkeypatch.chdir(tmp_path)
    load_job(Path("jobs/job.yaml"))  # missing in both folders: said later, by name
    (tmp_path / "jobs/x").touch()
    with pytest.raises(JobError, match="'x' is not in the current folder") as raised:
        load_job(Path("jobs/job.yaml"))
    assert raised.value.where == f"jobs/job.yaml:5 grid.datasets[0].{key}"
    assert raised.value.nearest == "jobs/x, beside the job"
    (tmp_path / "x").touch()
    load_job(Path("jobs/job.yaml"))
