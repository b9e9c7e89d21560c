"""The output of a deletion request: in one step or not at all, on disks that refuse, in wishes."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from lotus_ray.audit.folder import RECORD, WEIGHTS
from lotus_ray.base.errors import JobError, RecordError
from lotus_ray.grid.forget.chain import Earlier
from lotus_ray.grid.forget.job_file import write_job
from lotus_ray.grid.forget.one_cell import WITHOUT_RECIPE, load_one
from lotus_ray.grid.forget.place import earlier_answer, write_folder
from lotus_ray.grid.forget.wish import Wish
from lotus_ray.job.load import load_job
from tests.audit.made_up import folder, predicate


def test_a_folder_appears_in_one_step_and_what_a_killed_command_left_goes(tmp_path: Path) -> None:
    stale = tmp_path / ".out.partial"
    stale.mkdir()
    (stale / "half.safetensors").write_bytes(b"half")
    write_folder(tmp_path / "out", {WEIGHTS: b"w", "chain/0001.json": b"r"})
    files = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*.*")}
    assert files == {f"out/{WEIGHTS}", "out/chain/0001.json"}


def test_two_commands_do_not_write_one_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other command begins while the first one is half-way."""
    sync, others = os.fsync, []

    def begin_another(descriptor: int) -> None:
        if not others:
            others.append("begun")
            with pytest.raises(JobError, match="another command writes this output now"):
                write_folder(tmp_path / "out", {WEIGHTS: b"other"})
        sync(descriptor)

    monkeypatch.setattr("os.fsync", begin_another)
    write_folder(tmp_path / "out", {WEIGHTS: b"w", "chain/0001.json": b"r"})
    assert others
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == b"w"
    assert (tmp_path / "out" / "chain" / "0001.json").read_bytes() == b"r"
    with pytest.raises(JobError, match="the output cannot be written: Directory not empty"):
        write_folder(tmp_path / "out", {WEIGHTS: b"later"})
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["--train", "--heldout"])
def test_an_output_among_the_images_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    for folder_name in ("train", "val"):
        (tmp_path / folder_name / "cat").mkdir(parents=True)
    (tmp_path / "model.pth").write_text("")
    among = tmp_path / {"--train": "train", "--heldout": "val"}[name]
    wish = Wish(
        output=among / "out",
        model="resnet18",
        weights=tmp_path / "model.pth",
        train=str(tmp_path / "train"),
        heldout=str(tmp_path / "val"),
        ids=(tmp_path / "ids.csv",),
    )
    with pytest.raises(JobError, match=f"the output lies in the folder of {name}"):
        write_job(wish, print)
    assert [each.name for each in among.iterdir()] == ["cat"]


def test_held_out_images_beside_a_prepared_data_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("{}")
    for name in ("model.pth", "ids.csv"):
        (tmp_path / name).write_text("")
    wish = Wish(
        output=tmp_path / "out",
        model="resnet18",
        weights=tmp_path / "model.pth",
        train=str(tmp_path / "data"),
        heldout=str(tmp_path / "val"),
        ids=(tmp_path / "ids.csv",),
    )
    with pytest.raises(JobError, match="a prepared data set has its own held-out images"):
        write_job(wish, print)


def test_a_write_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(JobError, match="the output cannot be written: No space left") as caught:
        write_folder(tmp_path / "out", {WEIGHTS: b"w"})
    assert "what it computed is kept" in caught.value.next_command
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_disk_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(JobError, match="the output cannot be written: Read-only file system"):
        earlier_answer(Wish(output=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_finished_folder_that_was_changed_is_no_answer(tmp_path: Path) -> None:
    path = folder(tmp_path / "out")
    assert earlier_answer(Wish(output=path)) is not None
    (path / WEIGHTS).write_bytes(b"others")
    with pytest.raises(RecordError, match=f"{WEIGHTS} changed since the record was made"):
        earlier_answer(Wish(output=path))
    (path / RECORD).unlink()
    with pytest.raises(JobError, match="holds no record"):
        earlier_answer(Wish(output=path))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"request_ids": ("../../etc/x",)}, "no name of a request"),
        ({"request_ids": ("a\nb",)}, r"'a\\nb' is no name of a request"),
        ({"request_ids": ("a", "b")}, "2 names for 1 files of ids"),
    ],
)
def test_a_name_of_a_request_can_name_a_file(options: dict, what: str) -> None:
    with pytest.raises(JobError, match=what):
        Wish(output=Path("out"), ids=(Path("ids"),), **options).names()


def test_the_time_of_a_request_is_utc() -> None:
    def received(text: str) -> str:
        return Wish(output=Path("out"), received=text).received_utc()

    assert received("2026-11-28T13:00:00+01:00") == "2026-11-28T12:00:00.000+00:00"
    assert received("2026-11-28") == "2026-11-28T00:00:00.000+00:00"
    with pytest.raises(JobError, match="'last Monday' is no time"):
        received("last Monday")
    with pytest.raises(JobError, match="which is in the future") as error:
        received("9999-01-01")
    assert error.value.where == "--received"


def test_a_gate_is_given_once() -> None:
    wish = Wish(output=Path("out"), gates=("zrf={at_most: 1}", "zrf={at_least: 0}"))
    with pytest.raises(JobError, match="gate zrf is given twice"):
        wish.gate_overrides()


@pytest.mark.parametrize(
    ("gate", "what"),
    [
        ("retain_acuracy={at_least: .1}", "there is no gate 'retain_acuracy'"),
        ("zrf={max: 1}", "unknown key 'max'"),
        ("zrf={at_most: 5}", "Input should be less than or equal to 1"),
        ("zrf={at_most", "this is not YAML"),
        ("relearn={at_most: original}", "relearn is an area between two curves"),
    ],
)
def test_a_wrong_gate_names_the_option_before_anything_is_read(gate: str, what: str) -> None:
    with pytest.raises(JobError) as error:
        Wish(output=Path("out"), gates=(gate,)).check()
    assert what in error.value.what
    assert error.value.where.startswith(f"--gate '{gate}'")


def test_what_the_request_before_overrules_is_said() -> None:
    earlier = Earlier(predicates=(predicate(),))
    assert earlier.notes(Path("m.pth"), "resnet18") == [
        "--weights m.pth is not used: the model is that of --after"
    ]
    assert earlier.notes(None, "vit") == [
        "--model vit is not used: the model of --after is resnet18"
    ]
    assert earlier.note_on_images("0" * 64) == ""
    assert "the images are others" in earlier.note_on_images("1" * 64)
    assert Earlier().notes(Path("m.pth"), "vit") == []
    assert Earlier().note_on_images("1" * 64) == ""


def test_gold_that_a_later_request_cannot_train_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    job = Path(__file__).parents[2] / "jobs" / "digits.yaml"
    said: list[str] = []
    later = [f"model.initial_checkpoint={tmp_path}/model.safetensors", WITHOUT_RECIPE]
    methods = "grid.methods=[gold, lotus]"
    loaded = load_one(job, "lotus", [methods, *later], say=said.append)
    assert [each.name for each in loaded.methods[0]] == ["original", "lotus"]
    assert said == ["gold is left out: the model of --after has no recipe to train one again from"]
    load_one(job, "lotus", [methods], say=said.append)
    assert len(said) == 1


def test_a_job_that_is_written_keeps_names_that_look_like_numbers(tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    wish = Wish(
        output=tmp_path / "out",
        ids=(tmp_path / "ids.csv",),
        model="resnet18",
        weights=tmp_path / "model.pth",
        train=str(tmp_path / "train.parquet"),
        heldout=str(tmp_path / "val.parquet"),
        classes="12e4,7,no",
    )
    [dataset] = load_job(write_job(wish, lambda line: None)).job.grid.datasets
    assert dataset.parquet is not None
    assert dataset.parquet.classes == ["12e4", "7", "no"]


def test_an_option_that_says_what_a_job_says_is_refused(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    Wish(output=tmp_path / "out", job=job, gates=("zrf={at_most: 1}",)).check()
    with pytest.raises(JobError, match="with a job file, the job says what --img-size would"):
        Wish(output=tmp_path / "out", job=job, img_size=32).check()
