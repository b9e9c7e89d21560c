"""Jobs that take their parts from others: what wins, and where an error says that it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.job.extends import MAX_FILES, read_document
from lotus_ray.job.load import LoadedJob, load_job

BASE = """\
store: runs/x
epochs: 3
batch_size: 64
grid:
  methods: [finetune, lotus]
  datasets:
    - {name: Digits, source: digits, forget: {fraction: 0.1}, img_size: 8}
  models:
    - name: resnet18_cifar
      options: {width: 4}
      train: {epochs: 2, lr: 0.1}
  seeds: [13]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("parts/base.yaml", BASE)


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def load(text: str, *overrides: str) -> LoadedJob:
    write("job.yaml", text)
    return load_job(Path("job.yaml"), overrides)


def refused(text: str, *overrides: str) -> LotusRayError:
    with pytest.raises(LotusRayError) as caught:
        load(text, *overrides)
    assert caught.value.exit_code == 2
    return caught.value


def test_a_job_says_only_what_differs() -> None:
    job = load("extends: parts/base.yaml\nepochs: 7\ngrid: {seeds: [1, 2]}\n").job
    assert (job.store, job.epochs, job.batch_size) == ("runs/x", 7, 64)
    assert job.grid.seeds == [1, 2]
    assert job.grid.datasets[0].name == "Digits"


def test_mappings_are_merged_and_lists_replaced() -> None:
    write("parts/more.yaml", "resources: {workers: 2}\ngrid: {methods: [gold]}\n")
    job = load("extends: [parts/base.yaml, parts/more.yaml]\nresources: {cpus_per_worker: 3}\n").job
    assert job.grid.methods == ["gold"]
    assert (job.resources.workers, job.resources.cpus_per_worker) == (2, 3)


def test_the_later_one_of_several_wins() -> None:
    write("a.yaml", "epochs: 1\nbatch_size: 1\n")
    write("b.yaml", "epochs: 2\n")
    job = load("extends: [parts/base.yaml, a.yaml, b.yaml]\n").job
    assert (job.epochs, job.batch_size) == (2, 1)
    job = load("extends: [parts/base.yaml, b.yaml, a.yaml]\n").job
    assert (job.epochs, job.batch_size) == (1, 1)


def test_names_are_relative_to_the_file_that_says_them() -> None:
    write("parts/middle.yaml", "extends: base.yaml\nepochs: 5\n")
    assert load("extends: parts/middle.yaml\n").job.epochs == 5


def test_an_error_names_the_file_that_holds_the_mistake() -> None:
    write("parts/base.yaml", BASE.replace("batch_size", "batchsize"))
    error = refused("extends: parts/base.yaml\nepochs: 4\n")
    assert error.where == "parts/base.yaml:3 batchsize"
    write("parts/base.yaml", BASE)
    error = refused("extends: parts/base.yaml\n\nepochs: -4\n")
    assert error.where == "job.yaml:3 epochs"


def test_a_line_of_a_replaced_list_is_not_taken_for_that_of_the_new_one() -> None:
    error = refused("extends: parts/base.yaml\ngrid:\n  datasets:\n    - {img_size: 8}\n")
    assert error.where.startswith("job.yaml:4 grid.datasets[0]")


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("extends: nowhere.yaml\n", "cannot be read", "job.yaml:1 extends: nowhere.yaml"),
        ("extends: job.yaml\n", "extends itself", "job.yaml:1 extends: job.yaml"),
        ("extends: parts/loop.yaml\n", "extends itself", "parts/loop.yaml:1 extends: parts/../job"),
        ("extends: 7\n", "a file name or a list", "job.yaml:1 extends"),
        ("extends: [parts/base.yaml, 7]\n", "a file name or a list", "job.yaml:1 extends"),
        ("extends: parts/list.yaml\n", "only mappings", "job.yaml and parts/list.yaml"),
    ],
)
def test_what_cannot_be_extended_is_refused(text: str, what: str, where: str) -> None:
    write("parts/loop.yaml", "extends: ../job.yaml\n")
    write("parts/list.yaml", "[1, 2]\n")
    error = refused(text)
    assert what in error.what
    assert error.where.startswith(where)


def test_files_do_not_multiply_without_end() -> None:
    """Each level names the next one twice: 2^20 readings, stopped after MAX_FILES."""
    for level in range(20):
        write(f"level{level}.yaml", f"extends: [level{level + 1}.yaml, level{level + 1}.yaml]\n")
    write("level20.yaml", "epochs: 1\n")
    with pytest.raises(JobError, match="too many others"):
        read_document(Path("level0.yaml"))
    assert MAX_FILES < 100


def test_what_is_extended_cannot_be_set() -> None:
    error = refused(BASE, "extends=parts/base.yaml")
    assert "not of the form" in error.what


DEFAULTS = """\
extends: parts/base.yaml
defaults:
  dataset: {name: Digits, source: digits, img_size: 8}
  methods:
    lotus: {alpha: 16, epochs: 9}
    scrub: {msteps: 1}
grid:
  datasets:
    - forget: {fraction: 0.1}
    - {forget: {fraction: 0.2}, img_size: 16}
  methods:
    - finetune
    - lotus
    - {name: lotus, alpha: 4}
    - {name: salun, inner: lotus}
"""


def test_defaults_fill_what_an_entry_does_not_say() -> None:
    loaded = load(DEFAULTS)
    first, second = loaded.job.grid.datasets
    assert (first.name, first.img_size, first.forget.fraction) == ("Digits", 8, 0.1)
    assert (second.name, second.img_size, second.forget.fraction) == ("Digits", 16, 0.2)
    _, finetune, lotus, other, salun = loaded.methods[0]
    assert (finetune.epochs, lotus.epochs, lotus.alpha) == (3, 9, 16)  # type: ignore[attr-defined]
    assert (other.epochs, other.alpha) == (9, 4)  # type: ignore[attr-defined]
    assert salun.inner == lotus  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "what", "where"),
    [
        ("lotus: {alpha", "lotsu: {alpha", "unknown method 'lotsu'", "job.yaml:5 defaults"),
        ("msteps", "mstep", "unknown hyper-parameter 'mstep' of scrub", "job.yaml:6 defaults"),
        ("alpha: 16", "alpha: x", "Input should be a valid number", "job.yaml:5 defaults"),
        ("msteps: 1", "lr: -1", "scrub: lr is -1", "job.yaml:6 defaults.methods.scrub.lr"),
        ("lotus: {alpha: 16, epochs: 9}", "gold: {lr: 1}", "belongs to the model", "job.yaml:5"),
        ("dataset: {name", "dataset: {nmae", "unknown key 'nmae'", "job.yaml:3 grid.datasets[0]"),
    ],
)
def test_a_wrong_default_is_found_where_it_stands(
    old: str, new: str, what: str, where: str
) -> None:
    error = refused(DEFAULTS.replace(old, new))
    assert what in error.what
    assert error.where.startswith(where)


def test_a_default_that_is_set_is_found_where_it_was_set() -> None:
    error = refused(DEFAULTS, "defaults.dataset={name: D, source: digits, img_size: x}")
    assert error.where == "--set defaults.dataset={name: D, source: digits, img_size: x}"


def test_the_name_of_a_setting_goes_with_its_forget_set() -> None:
    text = DEFAULTS.replace("img_size: 8}", "img_size: 8, setting: fixed, forget: {per_class: 2}}")
    text = text.replace("- forget: {fraction: 0.1}\n", "- {}\n")
    first, second = load(text).job.grid.datasets
    assert (first.setting_name, second.setting_name) == ("fixed", "instance_20pct")


def test_nothing_can_be_extended() -> None:
    assert load(f"extends: null\n{BASE}").job.epochs == 3


MORE = "grid: {more_methods: [relabel, {name: ssd, alpha: 3}]}\n"


def names(loaded: LoadedJob) -> list[str]:
    return [method.name for method in loaded.methods[0]]


def test_more_methods_follow_those_of_the_job() -> None:
    write("parts/more.yaml", MORE)
    both = "extends: [parts/base.yaml, parts/more.yaml]\n"
    assert names(load(both)) == ["original", "finetune", "lotus", "relabel", "ssd"]
    assert names(load("extends: parts/base.yaml\n")) == ["original", "finetune", "lotus"]
    own = load(both + "grid: {methods: [scrub]}\n")
    assert names(own) == ["original", "scrub", "relabel", "ssd"]
    assert names(load(both, "grid.methods=[scrub]")) == ["original", "scrub"]


def test_a_mistake_in_more_methods_is_found_where_it_is() -> None:
    write("parts/more.yaml", MORE.replace("alpha", "alhpa"))
    error = refused("extends: [parts/base.yaml, parts/more.yaml]\n")
    assert (error.what, error.nearest) == ("unknown hyper-parameter 'alhpa' of ssd", "alpha")
    assert error.where.startswith("parts/more.yaml:1 ")
    write("parts/more.yaml", "grid: {more_methods: lotus}\n")
    error = refused("extends: [parts/base.yaml, parts/more.yaml]\n")
    assert error.what == "grid.more_methods must be a list"
    assert error.where.startswith("parts/more.yaml:1 ")
