"""Jobs that come with lotus-ray: found by name, after files of the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from lotus_ray.base.errors import JobError
from lotus_ray.job import bundled
from lotus_ray.job.extends import read_document
from lotus_ray.job.load import load_job
from tests.job.test_cell_ids import NAMES
from tests.job.test_paper_jobs import REAL

DIGITS = Path(__file__).parents[2] / "jobs" / "digits.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_job_file_has_a_name_and_says_what_it_does() -> None:
    files = bundled.files()
    assert sorted(files) == sorted([*NAMES, *(f"real/{name}" for name in REAL)])
    assert all(len(bundled.about(path)) > 30 for path in files.values())
    assert "lotus-ray grid" not in bundled.about(files["digits"])


def test_a_name_is_the_job_and_its_lines_stand_in_that_file() -> None:
    assert load_job(Path("digits")).job == load_job(DIGITS).job
    with pytest.raises(JobError) as raised:
        load_job(Path("ablations/alpha-cifar10-vit"), ["grid.methods.0=lotos"])
    assert "nearest: lotus" in str(raised.value)


def test_a_file_of_the_user_wins_and_a_folder_does_not() -> None:
    Path("digits-vit").mkdir()
    Path("digits").write_text("store: mine\n")
    assert read_document(Path("digits")).values == {"store": "mine"}
    assert read_document(Path("digits-vit")).values["store"] == "runs/digits"


def test_a_job_may_extend_one_of_ours() -> None:
    Path("mine.yaml").write_text("extends: digits\nstore: mine\n")
    values = read_document(Path("mine.yaml")).values
    assert (values["store"], values["grid"]) == ("mine", read_document(DIGITS).values["grid"])


@pytest.mark.parametrize("name", ["digts", "digits.yaml", "jobs/digits.yaml"])
def test_a_name_that_is_none_is_told_the_nearest(name: str) -> None:
    with pytest.raises(JobError) as raised:
        load_job(Path(name))
    assert raised.value.nearest == "digits, which comes with lotus-ray"
    assert raised.value.next_command == "lotus-ray list jobs"


def test_jobs_of_an_installed_package_lie_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "PACKAGE", tmp_path)
    (tmp_path / "jobs/shared").mkdir(parents=True)
    for name in ("one.yaml", "shared/part.yaml"):
        (tmp_path / "jobs" / name).touch()
    assert bundled.files() == {"one": tmp_path / "jobs/one.yaml"}
