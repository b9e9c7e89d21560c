"""Old keys of jobs: a renamed one works and says its new name, a removed one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lotus_ray.base.errors import JobError
from lotus_ray.cli.main import main
from lotus_ray.job.load import load_job
from lotus_ray.job.renamed_keys import REMOVED, RENAMED, replace_old_keys
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import dotted

GOOD = """\
store: runs/x
grid:
  methods: [finetune]
  datasets: [{name: Digits, source: digits, forget: {fraction: 0.1}, img_size: 8}]
  models: [{name: resnet18_cifar, options: {width: 4}, train: {epochs: 1}}]
  seeds: [13]
"""
OLD = GOOD + "resources: {lanes_at_once: 3}\n"
NOTE = "resources.lanes_at_once is now resources.trials_at_once"

Path_ = tuple[str, ...]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def nested(path: Path_, value: object) -> str:
    """Return YAML of one value below some keys; JSON is YAML."""
    for key in reversed(path):
        value = {key: value}
    return json.dumps(value)


def schema_has(path: Path_) -> bool:
    """Return True if the schema for editors has a key."""
    result = CliRunner().invoke(main, ["validate", "--schema"])
    schema: dict[str, Any] = json.loads(result.stdout)
    at = schema
    for key in path:
        at = schema["$defs"][at["$ref"].split("/")[-1]] if "$ref" in at else at
        if key not in at["properties"]:
            return False
        at = at["properties"][key]
    return True


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=map(dotted, RENAMED))
def test_a_renamed_key_moves_to_its_new_name(old: Path_, new: Path_) -> None:
    for value in (5, None):
        document = Document("job.yaml", nested(old, value))
        notes = replace_old_keys(document)
        assert notes == [f"{dotted(old)} is now {dotted(new)}: job.yaml:1 {dotted(old)}"]
        assert document.contains(new)
        assert not document.contains(old)
        assert document.where(new) == f"job.yaml:1 {dotted(new)}"
        assert replace_old_keys(document) == []
    assert schema_has(new)
    assert not schema_has(old)


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=map(dotted, RENAMED))
def test_the_old_and_the_new_name_together_are_refused(old: Path_, new: Path_) -> None:
    document = Document("job.yaml", nested(old, 1))
    document.override(f"{dotted(new)}=2")
    with pytest.raises(JobError, match="the job has both"):
        replace_old_keys(document)


@pytest.mark.parametrize(("old", "instead"), REMOVED.items(), ids=map(dotted, REMOVED))
def test_a_removed_key_is_refused_with_what_to_write(old: Path_, instead: str) -> None:
    with pytest.raises(JobError) as raised:
        replace_old_keys(Document("job.yaml", nested(old, True)))
    error = raised.value
    assert (error.what, error.nearest) == (f"{dotted(old)} was removed", instead)
    assert error.where == f"job.yaml:1 {dotted(old)}"
    assert not schema_has(old)


def test_a_removed_key_of_a_job_or_an_override_is_refused() -> None:
    Path("job.yaml").write_text(GOOD)
    with pytest.raises(JobError, match="share_gpus was removed") as raised:
        load_job(Path("job.yaml"), ["resources.share_gpus=true"])
    assert raised.value.where == "--set resources.share_gpus=true"
    assert raised.value.nearest == "resources.gpus_per_worker: 0.25"
    Path("job.yaml").write_text(GOOD + "resources:\n  share_gpus: true\n")
    with pytest.raises(JobError, match="share_gpus was removed") as raised:
        load_job(Path("job.yaml"))
    assert raised.value.where == "job.yaml:8 resources.share_gpus"


def test_an_old_key_works_in_a_job_in_what_it_extends_and_in_an_override() -> None:
    Path("job.yaml").write_text(OLD)
    Path("new.yaml").write_text(GOOD + "resources: {trials_at_once: 3}\n")
    Path("over.yaml").write_text("extends: job.yaml\nresources: {trials_at_once: 5}\n")
    override = "resources.lanes_at_once=7"
    for name, overrides, trials, notes in (
        ("job", (), 3, (f"{NOTE}: job.yaml:7 resources.lanes_at_once",)),
        ("new", (), 3, ()),
        ("new", (override,), 7, (f"{NOTE}: --set {override}",)),
        ("over", (), 5, (f"{NOTE}: job.yaml:7 resources.lanes_at_once",)),
    ):
        loaded = load_job(Path(f"{name}.yaml"), overrides)
        assert (loaded.job.resources.trials_at_once, loaded.notes) == (trials, notes)


def test_a_wrong_value_of_an_old_key_is_named_with_its_line() -> None:
    Path("job.yaml").write_text(OLD.replace("3}", "many}"))
    with pytest.raises(JobError) as raised:
        load_job(Path("job.yaml"))
    assert raised.value.where == "job.yaml:7 resources.trials_at_once"


def test_commands_print_one_line() -> None:
    Path("job.yaml").write_text(OLD)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    for result in (run("validate", "job.yaml"), run("grid", "job.yaml", "--dry-run")):
        assert result.exit_code == 0, result.output
        line = f"note: {NOTE}: job.yaml:7 resources.lanes_at_once\n"
        assert result.stderr.count(line) == 1
