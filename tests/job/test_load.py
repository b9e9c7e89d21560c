from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lotus_ray.base.errors import JobError, LotusRayError, MethodError
from lotus_ray.job.load import LoadedJob, load_job
from lotus_ray.job.method_spec import build_method, describe
from lotus_ray.job.schema.dataset import DatasetJob
from lotus_ray.job.schema.job import Job
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import MAX_NODES, dotted
from lotus_ray.models import ModelSpec
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.gold import Gold
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.methods.salun import Salun

GOOD = """\
store: runs/x
epochs: 3
grid:
  methods:
    - original
    - gold
    - finetune
    - {name: lotus, alpha: 8}
  datasets:
    - name: Digits
      source: digits
      forget: {fraction: 0.1}
      img_size: 8
  models:
    - name: resnet18_cifar
      options: {width: 4}
      train: {epochs: 2, lr: 0.1}
  seeds: [13, 7]
"""
ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *overrides: str) -> LoadedJob:
    """Load a job from the text of its file, job.yaml in the working folder."""
    Path("job.yaml").write_text(text)
    return load_job(Path("job.yaml"), overrides)


def refused(text: str, *overrides: str) -> LotusRayError:
    """Return the error that a job is refused with."""
    with pytest.raises(LotusRayError) as caught:
        load(text, *overrides)
    assert caught.value.exit_code == 2
    return caught.value


def changed(old: str, new: str) -> str:
    """Return the good job with one text in the place of another."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_good_job_is_what_its_file_says() -> None:
    loaded = load(GOOD)
    assert loaded.job.grid.seeds == [13, 7]
    assert loaded.job.batch_size == 128
    assert loaded.methods == (
        (
            Original(epochs=2, lr=0.1),
            Gold(epochs=2, lr=0.1),
            Finetune(epochs=3),
            Lotus(epochs=3, alpha=8.0),
        ),
    )
    assert loaded.job.grid.datasets[0].transform_for(None).img_size == 8


def test_the_original_is_run_first_even_where_it_is_not_listed() -> None:
    loaded = load(GOOD, "grid.methods=[lotus, gold]")
    assert [method.name for method in loaded.methods[0]] == ["original", "gold", "lotus"]


def test_each_model_has_methods_of_its_own() -> None:
    other = "{name: resnet18_cifar, label: B, train: {epochs: 9}}"
    loaded = load(changed("  seeds", f"    - {other}\n  seeds"))
    assert [methods[:2] for methods in loaded.methods] == [
        (Original(epochs=2, lr=0.1), Gold(epochs=2, lr=0.1)),
        (Original(epochs=9), Gold(epochs=9)),
    ]


@pytest.mark.parametrize(
    ("text", "what", "where", "near"),
    [
        (GOOD + "epoks: 3\n", "epoks", "job.yaml:19 epoks", "epochs"),
        (
            changed("img_size: 8", "img_size: 8\n      crop: 1"),
            "crop",
            "job.yaml:14 grid.datasets[0].crop",
            "crop_pct",
        ),
        (
            changed("{fraction: 0.1}", "{fraction: 0.1, fractoin: 1}"),
            "fractoin",
            "job.yaml:12 grid.datasets[0].forget.fractoin",
            "fraction",
        ),
        (
            changed("options: {width: 4}", "lable: x"),
            "lable",
            "job.yaml:16 grid.models[0].lable",
            "label",
        ),
        (GOOD + "resources: {worker: 2}\n", "worker", "job.yaml:19 resources.worker", "workers"),
    ],
    ids=["top", "in a list", "in a mapping of a list", "in another list", "in a mapping"],
)
def test_an_unknown_key_is_named_with_its_place_and_the_nearest(
    text: str, what: str, where: str, near: str
) -> None:
    error = refused(text)
    assert error.what == f"unknown key '{what}'"
    assert (error.where, error.nearest) == (where, near)
    assert error.next_command == "lotus-ray validate job.yaml"


@pytest.mark.parametrize(
    ("text", "what", "where", "near"),
    [
        (
            changed("- finetune", "- finetun"),
            "unknown method 'finetun'",
            "job.yaml:7 grid.methods[2]",
            "finetune",
        ),
        (
            changed("name: lotus", "name: Lotos"),
            "unknown method 'Lotos'",
            "job.yaml:8 grid.methods[3]",
            "lotus",
        ),
        (
            changed("alpha: 8", "alfa: 8"),
            "unknown hyper-parameter 'alfa' of lotus",
            "job.yaml:8 grid.methods[3].alfa",
            "alpha",
        ),
        (
            changed("lr: 0.1", "warmup: 1"),
            "unknown hyper-parameter 'warmup' of original",
            "job.yaml:17 grid.models[0].train.warmup",
            "warmup_epochs",
        ),
        (
            changed("source: digits", "source: digit"),
            "unknown source 'digit'",
            "job.yaml:11 grid.datasets[0].source",
            "digits",
        ),
        (
            changed("name: resnet18_cifar", "name: resnet18_cifra"),
            "unknown model 'resnet18_cifra'",
            "job.yaml:15 grid.models[0].name",
            "resnet18_cifar",
        ),
    ],
)
def test_an_unknown_name_is_named_with_its_place_and_the_nearest(
    text: str, what: str, where: str, near: str
) -> None:
    error = refused(text)
    assert (error.what, error.where, error.nearest) == (what, where, near)
    assert error.next_command.startswith("lotus-ray list ")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (changed("epochs: 3", "epochs: three"), "job.yaml:2 epochs"),
        (changed("epochs: 3", "epochs: 0"), "job.yaml:2 epochs"),
        (changed("epochs: 3", "epochs: 1.5"), "job.yaml:2 epochs"),
        (changed("img_size: 8", "img_size: [8]"), "job.yaml:13 grid.datasets[0].img_size"),
        (changed("fraction: 0.1", "fraction: 1"), "job.yaml:12 grid.datasets[0].forget.fraction"),
        (changed("alpha: 8", "alpha: big"), "job.yaml:8 grid.methods[3].alpha"),
        (
            changed("options: {width: 4}", "expected_accuracy: 81.07"),
            "job.yaml:16 grid.models[0].expected_accuracy",
        ),
        (
            changed("options: {width: 4}", "accuracy_tolerance: 0"),
            "job.yaml:16 grid.models[0].accuracy_tolerance",
        ),
        (changed("lr: 0.1", "lr: fast"), "job.yaml:17 grid.models[0].train.lr"),
        (changed("[13, 7]", "[13, lucky]"), "job.yaml:18 grid.seeds[1]"),
        (changed("[13, 7]", "[]"), "job.yaml:18 grid.seeds"),
        (changed("[13, 7]", "13"), "job.yaml:18 grid.seeds"),
        (changed("store: runs/x", "store: 5"), "job.yaml:1 store"),
        (
            changed("img_size: 8", "img_size: 8\n      std: [1, 0, 1]"),
            "job.yaml:14 grid.datasets[0].std[1]",
        ),
        (changed("width: 4", "width: 2020-01-01"), "job.yaml:16 grid.models[0].options.width"),
        (GOOD + "precision: fp8\n", "job.yaml:19 precision"),
        (changed("- finetune", "- 5"), "job.yaml:7 grid.methods[2]"),
        (changed("      img_size: 8\n", ""), "job.yaml:10 grid.datasets[0].img_size"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(text: str, where: str) -> None:
    error = refused(text)
    assert error.where == where
    assert error.what


@pytest.mark.parametrize(
    ("value", "shown", "near"),
    [
        ("3", "3", "2"),
        ("0", "0", "1"),
        ("-1", "-1", "1"),
        ("1.5", "1.5", "1"),
        (".nan", "nan", "1"),
        ("true", "True", "1"),
        ("all", "'all'", "2"),
    ],
)
def test_a_group_never_starts_with_more_workers_than_it_may_have(
    value: str, shown: str, near: str
) -> None:
    error = refused(GOOD + f"resources:\n  workers: 2\n  min_workers: {value}\n")
    assert error.what == (f"min_workers is an integer from 1 to workers, which is 2, not {shown}")
    assert (error.where, error.nearest) == ("job.yaml:21 resources.min_workers", near)
    assert error.next_command == "lotus-ray validate job.yaml"


def test_a_wrong_number_of_workers_is_told_before_what_depends_on_it() -> None:
    error = refused(GOOD + "resources: {min_workers: 3, workers: none}\n")
    assert error.where == "job.yaml:19 resources.workers"


@pytest.mark.parametrize(
    ("least", "on", "text"),
    [
        ("null", [0, 0, 0, 1, 1, 1, 2], "3"),
        ("3", [0, 0, 0, 1, 1, 1, 2], "3"),
        ("2", [0, 0, 1, 1, 1, 2, 2], "2 to 3"),
        ("1", [0, 1, 1, 1, 2, 2, 2], "1 to 3"),
    ],
)
def test_groups_are_as_large_as_asked_and_the_last_one_takes_the_rest(
    least: str, on: list[int], text: str
) -> None:
    """Of 0 … 6 workers, with 3 a group."""
    loaded = load(GOOD, f"resources={{workers: 3, min_workers: {least}}}")
    need = loaded.job.resources
    assert [need.trials_on(workers) for workers in range(7)] == on
    assert need.workers_text == text


def test_a_missing_key_is_named_in_full() -> None:
    assert refused(changed("      img_size: 8\n", "")).what == (
        "missing key 'grid.datasets[0].img_size'"
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (GOOD + "epochs: 5\n", "job.yaml:19 epochs"),
        (GOOD + "epochs: 3\n", "job.yaml:19 epochs"),
        (changed("lr: 0.1", "epochs: 5"), "job.yaml:17 grid.models[0].train.epochs"),
        (changed("alpha: 8", "alpha: 8, alpha: 2"), "job.yaml:8 grid.methods[3].alpha"),
    ],
)
def test_a_duplicate_key_is_refused_at_its_second_place(text: str, where: str) -> None:
    error = refused(text)
    assert error.what == f"duplicate key '{where.rsplit('.', 1)[-1].split()[-1]}'"
    assert error.where == where


def test_an_alias_bomb_is_refused() -> None:
    """Nine levels of ten aliases would be 10⁹ values."""
    error = refused(ALIAS_BOMB + GOOD)
    assert error.what == "the file expands to too many values"


def test_a_file_that_contains_itself_is_refused() -> None:
    assert refused("a: &a [*a]\n" + GOOD).what == "the file expands to too many values"


def test_an_alias_is_read_as_a_copy() -> None:
    document = Document("x", "a: &a {b: 1}\nc: *a\n")
    document.override("c.b=2")
    assert document.values == {"a": {"b": 1}, "c": {"b": 2}}


def test_a_long_but_honest_list_is_accepted() -> None:
    """A job of MAX_NODES − 100 seeds is large, and below the limit."""
    loaded = load(changed("[13, 7]", str(list(range(MAX_NODES - 100)))))
    assert len(loaded.job.grid.seeds) == MAX_NODES - 100


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch canary']",
        "!!python/object/apply:os.mkdir [canary]",
        "!!python/object/new:os.mkdir {args: [canary]}",
    ],
)
def test_a_python_tag_is_refused_and_runs_nothing(tag: str, folder: Path) -> None:
    text = changed("store: runs/x", f"store: {tag}")
    refused(text)
    assert not (folder / "canary").exists()
    yaml.load(text, Loader=yaml.UnsafeLoader)  # the canary can die
    assert (folder / "canary").exists()


@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!python/module:os ''", "!secret x"])
def test_an_unknown_tag_on_a_plain_value_is_refused(tag: str) -> None:
    error = refused(changed("store: runs/x", f"store: {tag}"))
    assert error.what.startswith("this is not YAML: could not determine a constructor for the tag")
    assert error.where == "job.yaml:1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (changed("grid:", "grid: ["), 5),
        (changed("epochs: 3", "epochs:\t[3"), 2),
        (changed("seeds: [13, 7]", "seeds: [13, 7"), 19),
        (GOOD + "---\nstore: y\n", 19),
        (changed("epochs: 3", "epochs 3"), 3),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(text: str, line: int) -> None:
    error = refused(text)
    assert error.what.startswith("this is not YAML: ")
    assert error.where == f"job.yaml:{line}"


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000, "2020-13-45"])
def test_a_value_that_yaml_itself_trips_over_is_refused(value: str) -> None:
    error = refused(changed("store: runs/x", f"store: {value}"))
    assert error.what.startswith("this is not YAML: ")
    assert error.where.startswith("job.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "hello\n", "- a\n", "7\n", "? [a]\n: 1\n"])
def test_a_file_that_is_no_job_is_refused(text: str) -> None:
    assert refused(text).where.startswith("job.yaml")


def test_a_file_that_cannot_be_read_is_a_job_error(folder: Path) -> None:
    (folder / "latin.yaml").write_bytes(b"store: caf\xe9\n")
    for name, why in (("none.yaml", "No such file"), (".", "directory"), ("latin.yaml", "UTF-8")):
        with pytest.raises(JobError, match=f"cannot be read: .*{why}") as caught:
            load_job(Path(name))
        assert caught.value.where == name


def test_every_text_that_lacks_one_character_is_a_job_or_an_error_with_a_place() -> None:
    jobs, errors = [], []
    for place in range(len(GOOD)):
        try:
            jobs.append(load(GOOD[:place] + GOOD[place + 1 :]))
        except LotusRayError as error:
            errors.append(error)
    assert len(jobs) > 20
    assert len(errors) > 100
    assert {error.exit_code for error in errors} == {2}
    assert [error for error in errors if not error.where.startswith("job.yaml")] == []


def test_set_changes_values_items_and_what_is_not_there() -> None:
    loaded = load(
        GOOD,
        "batch_size=32",
        "grid.seeds.1=99",
        "grid.methods.3.alpha=2.5",
        "grid.methods.2={name: finetune, lr: 0.5}",
        "resources.workers=3",
        "grid.datasets.0.mean=[0, 0, 0]",
    )
    assert loaded.job.batch_size == 32
    assert loaded.job.grid.seeds == [13, 99]
    assert loaded.methods[0][2:] == (Finetune(epochs=3, lr=0.5), Lotus(epochs=3, alpha=2.5))
    assert loaded.job.resources.workers == 3
    assert loaded.job.grid.datasets[0].mean == (0.0, 0.0, 0.0)


def test_the_last_of_two_overrides_holds() -> None:
    assert load(GOOD, "epochs=4", "epochs=5").job.epochs == 5


TWO_OF_EACH = (
    changed("  seeds", "    - {name: resnet18_cifar, label: B, train: {epochs: 9}}\n  seeds")
    .replace("  datasets:\n", "  datasets:\n    - {name: More, source: digits, img_size: 9}\n")
    .replace("store:", "defaults: {dataset: {forget: {per_class: 3}}}\nstore:")
)


def test_model_and_dataset_stand_for_every_entry() -> None:
    loaded = load(
        TWO_OF_EACH,
        "model.options.width=8",
        "model.label=null",
        "model.train.momentum=0.5",
        "grid.models.1.label=last",
        "dataset.img_size=7",
        "dataset.forget={fraction: 0.3}",
    )
    first, second = loaded.job.grid.models
    assert (first.options, second.options) == ({"width": 8}, {"width": 8})
    assert (first.label, second.label) == (None, "last")
    assert [methods[0] for methods in loaded.methods] == [
        Original(epochs=2, lr=0.1, momentum=0.5),
        Original(epochs=9, momentum=0.5),
    ]
    datasets = loaded.job.grid.datasets
    assert [(dataset.name, dataset.img_size) for dataset in datasets] == [
        ("More", 7),
        ("Digits", 7),
    ]
    assert [dataset.forget.fraction for dataset in datasets] == [0.3, 0.3]


def test_entries_that_a_shorthand_sets_do_not_share_the_value() -> None:
    loaded = load(TWO_OF_EACH, "model.options={width: 4}", "grid.models.0.options.width=5")
    assert [model.options["width"] for model in loaded.job.grid.models] == [5, 4]


@pytest.mark.parametrize(
    ("text", "assignment"),
    [
        (changed("models:", "nets:"), "model.name=resnet18_cifar"),
        (GOOD.split("  models:")[0] + "  models: []\n", "model.options.width=5"),
        (GOOD.split("  datasets:")[0], "dataset.img_size=5"),
        (GOOD.split("  models:")[0] + "  models: [5]\n", "model.name=x"),
        (GOOD.split("  models:")[0] + "  models: [5]\n", "model.options.width=5"),
        ("store: x\n", "model.name=x"),
        ("", "model.name=x"),
        (GOOD, "model.name.x=5"),
    ],
)
def test_a_shorthand_for_entries_that_are_not_there_leads_nowhere(
    text: str, assignment: str
) -> None:
    error = refused(text, assignment)
    assert error.what == f"'{assignment.split('=')[0]}' does not exist in job.yaml"
    assert error.where == f"--set {assignment}"


@pytest.mark.parametrize(
    ("assignment", "what", "near"),
    [
        ("epoks=3", "unknown key 'epoks'", "epochs"),
        ("model.lable=x", "unknown key 'lable'", "label"),
        ("model.name=resnet18_cifra", "unknown model 'resnet18_cifra'", "resnet18_cifar"),
        ("model.train.epoks=3", "unknown hyper-parameter 'epoks' of original", "epochs"),
        ("dataset.imgsize=3", "unknown key 'imgsize'", "img_size"),
        ("grid.models.0.lable=x", "unknown key 'lable'", "label"),
        ("grid.methods.3.alpa=2", "unknown hyper-parameter 'alpa' of lotus", "alpha"),
        ("grid.methods.2=lotos", "unknown method 'lotos'", "lotus"),
    ],
)
def test_a_name_that_set_got_wrong_is_found_there(assignment: str, what: str, near: str) -> None:
    error = refused(GOOD, assignment)
    assert (error.what, error.where, error.nearest) == (what, f"--set {assignment}", near)


@pytest.mark.parametrize(
    "assignment",
    ["epochs=many", "grid.seeds.0=x", "grid.models=5", "model.options=5", "dataset.img_size=big"],
)
def test_a_value_that_set_got_wrong_is_found_there(assignment: str) -> None:
    assert refused(GOOD, assignment).where == f"--set {assignment}"


@pytest.mark.parametrize(
    "assignment", ["grid.seeds.2=5", "store.x=5", "grid.seeds.x=5", "grid.seeds.²=5"]
)
def test_an_override_that_leads_nowhere_is_refused(assignment: str) -> None:
    error = refused(GOOD, assignment)
    assert error.what == f"'{assignment.split('=')[0]}' does not exist in job.yaml"
    assert error.where == f"--set {assignment}"


@pytest.mark.parametrize("assignment", ["epochs", "=5", ""])
def test_an_override_without_a_name_or_a_value_is_refused(assignment: str) -> None:
    assert "is not of the form a.b=value" in refused(GOOD, assignment).what


def test_an_override_that_is_not_yaml_is_refused() -> None:
    assert refused(GOOD, "epochs=[1").what.startswith("this is not YAML")


@settings(max_examples=25, deadline=None)
@given(st.floats(0, allow_nan=False, allow_infinity=False), st.integers())
def test_a_number_is_overridden_exactly(alpha: float, seed: int) -> None:
    document = Document("job.yaml", GOOD)
    document.override(f"grid.methods.3.alpha={alpha!r}")
    document.override(f"grid.seeds.0={seed}")
    Path("job.yaml").write_text(yaml.safe_dump(document.values))
    loaded = load_job(Path("job.yaml"))
    assert loaded.methods[0][-1] == Lotus(epochs=3, alpha=alpha)
    assert loaded.job.grid.seeds == [seed, 7]


def test_epochs_of_the_job_reach_the_methods_that_have_none_of_their_own() -> None:
    loaded = load(changed("- finetune", "- {name: finetune, epochs: 9}"))
    assert loaded.methods[0][1:] == (
        Gold(epochs=2, lr=0.1),
        Finetune(epochs=9),
        Lotus(epochs=3, alpha=8.0),
    )


def test_without_epochs_of_the_job_methods_keep_their_defaults() -> None:
    loaded = load(changed("epochs: 3\n", ""))
    assert loaded.methods[0][2:] == (Finetune(), Lotus(alpha=8.0))
    assert Finetune().epochs != 3


WITHOUT_RECIPE = changed("train: {epochs: 2, lr: 0.1}", "pretrained: true").replace(
    "resnet18_cifar", "test_vit"
)


def test_gold_without_a_recipe_is_refused() -> None:
    error = refused(WITHOUT_RECIPE)
    assert error.what == "a gold standard needs a recipe: this model has no train.epochs"
    assert error.where == "job.yaml:15 grid.models[0]"
    assert error.next_command


def test_an_original_without_recipe_and_weights_is_refused() -> None:
    error = refused(changed("      train: {epochs: 2, lr: 0.1}\n", ""))
    assert error.what.startswith("the original needs a recipe, pretrained weights or")
    assert error.where == "job.yaml:15 grid.models[0]"


@pytest.mark.parametrize(
    ("name", "wanted", "what", "near"),
    [
        (
            "torchvision/vit_b_16",
            "IMAGENET1K_V2",
            "torchvision/vit_b_16 has no weights 'IMAGENET1K_V2'",
            "IMAGENET1K_V1",
        ),
        ("torchvision/vit_b_16", "'true'", "torchvision/vit_b_16 has no weights 'true'", "one of"),
        (
            "test_vit",
            "r160_in1",
            "'r160_in1' can name weights of torchvision alone",
            "test_vit.r160_in1k",
        ),
        ("resnet18_cifar", "true", "there are no pretrained weights of resnet18_cifar", ""),
        ("resnet200", "true", "there are no pretrained weights of resnet200", ""),
        ("test_vit", "5", "give true, false or the name of torchvision's weights, not 5", ""),
    ],
)
def test_weights_that_there_are_not_are_named_with_the_nearest(
    name: str, wanted: str, what: str, near: str
) -> None:
    error = refused(WITHOUT_RECIPE, f"model.name={name}", f"model.pretrained={wanted}")
    assert error.what.startswith(what)
    assert error.where == f"--set model.pretrained={wanted}"
    assert error.nearest.startswith(near)
    assert error.next_command


def test_names_of_weights_are_accepted_and_a_checkpoint_makes_them_idle() -> None:
    given = WITHOUT_RECIPE.replace("    - gold\n", "")
    named = ("model.name=torchvision/vit_b_16", "model.pretrained=IMAGENET1K_SWAG_LINEAR_V1")
    (model,) = load(given, *named).job.grid.models
    assert model.spec(3, offline=False).pretrained == "IMAGENET1K_SWAG_LINEAR_V1"
    (model,) = load(
        given, *named, "model.name=test_vit", "model.initial_checkpoint=w"
    ).job.grid.models
    assert model.spec(3, offline=True) == ModelSpec("test_vit", 3, False, {"width": 4}, True)


def test_given_weights_without_gold_need_no_recipe() -> None:
    assert load(WITHOUT_RECIPE.replace("    - gold\n", "")).methods[0][0] == Original(epochs=0)


@pytest.mark.parametrize(
    "setting", ["alpha: .inf", "alpha: .nan", "epochs: 0", "epochs: -4", "lr: -1"]
)
def test_a_hyper_parameter_out_of_range_is_refused(setting: str) -> None:
    error = refused(changed("alpha: 8", setting))
    assert isinstance(error, MethodError)
    assert setting.split(":")[0] in error.what
    assert error.where == f"job.yaml:8 grid.methods[3].{setting.split(':')[0]}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("forget: {fraction: 0.1}", "forget: {classes: [no]}"),  # YAML's word for false
        ("seeds: [13, 7]", "seeds: [yes]"),
        ("epochs: 3", "epochs: yes"),
    ],
)
def test_a_truth_value_is_no_number(old: str, new: str) -> None:
    assert "valid" in refused(changed(old, new)).what


def test_a_control_character_is_refused() -> None:
    error = refused(changed("store: runs/x", 'store: "runs/\\0"'))
    assert (error.what, error.where) == ("a text holds a control character", "job.yaml:1 store")


@pytest.mark.parametrize("key", ["name", "version"])
def test_what_makes_a_method_what_it_is_cannot_be_set(key: str) -> None:
    error = refused(changed("lr: 0.1", f"{key}: finetune"))
    assert error.what == f"unknown hyper-parameter '{key}' of original"
    assert refused(changed("alpha: 8", "version: 9")).what == (
        "unknown hyper-parameter 'version' of lotus"
    )


def test_the_recipe_of_gold_stands_with_the_model() -> None:
    error = refused(changed("- gold", "- {name: gold, epochs: 3}"))
    assert error.what == "the recipe of gold belongs to the model: grid.models[].train"
    assert error.where == "job.yaml:6 grid.methods[1].epochs"


def test_a_method_without_a_name_is_refused() -> None:
    error = refused(changed("name: lotus, ", ""))
    assert (error.what, error.where) == ("a method needs a name", "job.yaml:8 grid.methods[3]")


@pytest.mark.parametrize("train", ["optimizer: adm", "epochs: -1", "warmup_epochs: 9"])
def test_a_recipe_out_of_range_is_a_method_error_with_a_place(train: str) -> None:
    error = refused(changed("{epochs: 2, lr: 0.1}", f"{{{train}}}"))
    assert isinstance(error, MethodError)
    assert error.where.startswith("job.yaml:17 grid.models[0].train")


def test_a_data_set_has_an_origin() -> None:
    error = refused(changed("      source: digits\n", ""))
    assert error.what == "give a source that is embedded, a manifest, or parquet"
    assert error.where == "job.yaml:10 grid.datasets[0]"


def test_a_source_with_files_has_to_be_prepared() -> None:
    error = refused(changed("source: digits", "source: cifar10"))
    assert error.what == "the files of cifar10 have to be prepared first"
    assert error.where == "job.yaml:11 grid.datasets[0].source"
    assert error.nearest == "manifest: data/cifar10"
    assert error.next_command == "lotus-ray prepare cifar10 data/cifar10 --root FOLDER"
    load(changed("source: digits", "source: cifar10\n      manifest: data/cifar10"))


@pytest.mark.parametrize(
    ("fraction", "name"), [(0.1, "instance_10pct"), (0.005, "instance_0.5pct")]
)
def test_the_setting_is_named_after_the_fraction(fraction: float, name: str) -> None:
    dataset = DatasetJob.model_validate(
        {"name": "x", "source": "digits", "img_size": 8, "forget": {"fraction": fraction}}
    )
    assert dataset.setting_name == name
    assert dataset.model_copy(update={"setting": "class_1"}).setting_name == "class_1"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_listed_and_survives_its_description(name: str) -> None:
    built = load(changed("- finetune", f"- {name}")).methods[0]
    (method,) = [method for method in built if method.name == name][:1]
    description = json.loads(json.dumps(describe(method)))
    assert (description["name"], description["version"]) == (name, method.version)
    assert build_method(description) == method


def test_the_inner_method_of_salun_is_checked_like_any_other() -> None:
    inner = "- {name: salun, inner: {name: finetune, lr: 0.5}}"
    assert load(changed("- finetune", inner)).methods[0][2] == Salun(
        inner=Finetune(epochs=3, lr=0.5)
    )
    assert load(changed("- finetune", inner)).methods[0][2].title == "SalUn + Finetuning"
    error = refused(changed("- finetune", inner.replace("lr:", "lrr:")))
    assert error.what == "unknown hyper-parameter 'lrr' of finetune"
    assert (error.where, error.nearest) == ("job.yaml:7 grid.methods[2].inner.lrr", "lr")
    error = refused(changed("- finetune", inner.replace("finetune", "finetun")))
    assert (error.what, error.nearest) == ("unknown method 'finetun'", "finetune")
    assert error.where == "job.yaml:7 grid.methods[2].inner"


def test_a_path_is_written_with_its_places() -> None:
    assert dotted(("grid", "methods", 2, "alpha")) == "grid.methods[2].alpha"
    assert dotted(()) == ""


def test_the_schema_for_editors_names_every_key() -> None:
    schema = json.loads(json.dumps(Job.model_json_schema()))
    written = {field.alias or name for name, field in Job.model_fields.items()}
    assert set(schema["properties"]) == written >= {"import", "grid", "gates"}
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("size", ["0", "-1", "1.5", "true", "many"])
def test_a_batch_size_of_a_method_that_is_none_is_refused(size: str) -> None:
    for key in ("grid.methods.3", "defaults.methods.lotus"):
        error = refused(GOOD, f"{key}.batch_size={size}")
        assert "must be a whole number of at least 1" in error.what
        assert f"{key}.batch_size" in error.where
        assert error.nearest == "batch_size: 64"


def test_a_misspelt_batch_size_of_a_method_is_told() -> None:
    error = refused(GOOD, "grid.methods.3.batchsize=3")
    assert (error.what, error.nearest) == (
        "unknown hyper-parameter 'batchsize' of lotus",
        "batch_size",
    )


def test_a_recipe_and_an_inner_method_have_no_batch_size_of_their_own() -> None:
    gold = refused(GOOD, "grid.methods=[{name: gold, batch_size: 3}]")
    assert gold.what == "the recipe of gold belongs to the model: grid.models[].train"
    inner = "{name: relabel, batch_size: 3}"
    error = refused(GOOD, f"grid.methods=[{{name: salun, inner: {inner}}}]")
    assert error.what == "batch_size belongs to salun, and its inner method has the same batches"
    assert error.nearest == "{name: salun, batch_size: 3}"


def test_methods_go_by_name_or_label_in_any_case() -> None:
    named = load(GOOD)
    for old, new in (("- finetune", "- Finetuning"), ("name: lotus", "name: LOTUS")):
        assert load(changed(old, new)).methods == named.methods
    labelled = load(GOOD + "defaults: {methods: {LoTUS: {alpha: 5}}}\n", "grid.methods=[LoTUS]")
    assert labelled.methods[0][-1] == Lotus(epochs=3, alpha=5.0)
    twice = GOOD + "defaults: {methods: {LoTUS: {alpha: 5}, lotus: {alpha: 6}}}\n"
    assert "the same method" in refused(twice).what


def test_entries_that_stand_twice_get_a_note() -> None:
    """Else three seeds are written, two are run, and nobody is told."""
    twice = load(GOOD, "grid.seeds=[7, 7, 1]", "grid.methods=[gold, {name: lotus}, {name: lotus}]")
    assert [note for note in twice.notes if "stands" in note] == [
        "7 stands 2 times in grid.seeds, and is run once",
        "lotus stands 2 times in grid.methods, and is run once",
    ]
    assert not [note for note in load(GOOD).notes if "stands" in note]
