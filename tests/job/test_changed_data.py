"""Data sets that a job changes: a subset, wrong labels, and forget sets from tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from lotus_ray.base.errors import DataError, JobError
from lotus_ray.base.roles import FORGET, ROLES
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from tests.toy import Sample, source

JOB = """\
store: runs
epochs: 1
grid:
  methods: [original, gold]
  datasets: [{name: Toy, manifest: data, forget: {fraction: 0.25}, img_size: 8}]
  models: [{name: resnet18_cifar, options: {width: 2}, train: {epochs: 1, lr: 0.1}}]
  seeds: [1, 2]
"""
CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """20 training and 8 held-out images of each of three classes."""
    samples = [
        Sample(f"{split[0]}{label}{number:02d}", split, b"", "", label)
        for split, count in ((TRAIN, 20), (HELDOUT, 8))
        for label in range(3)
        for number in range(count)
    ]
    return prepare(source(samples, CLASSES), tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(autouse=True)
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB)


def planned(manifest: Manifest, *dataset: str) -> tuple[CellGroup, Roles]:
    """Return the group of the first seed, and its roles, with some keys of the data set set."""
    made = plan(load_job(Path("job.yaml"), [f"dataset.{each}" for each in dataset]), [manifest])
    return made.groups[0], made.roles[made.groups[0].roles_name]


def true_labels(roles: Roles) -> list[int]:
    return [int(name[1]) for name in roles.sample_ids]


def wrong(roles: Roles) -> dict[str, int]:
    """Return the labels that are not the true ones, by sample id."""
    pairs = zip(roles.sample_ids, roles.labels.tolist(), true_labels(roles), strict=True)
    return {name: label for name, label, true in pairs if label != true}


def test_a_smaller_subset_is_part_of_a_larger_one(manifest: Manifest) -> None:
    parts = {
        count: planned(manifest, f"subset={{train_per_class: {count}, heldout_per_class: 4}}")
        for count in (4, 8)
    }
    small, large = (set(roles.sample_ids) for _, roles in parts.values())
    assert (len(small), len(large)) == (3 * (4 + 4), 3 * (8 + 4))
    assert small < large
    assert parts[4][0].setting == "instance_25pct_subset4+4"
    assert parts[4][0].notes[0] == "a subset: 12 training and 12 held-out images"
    assert parts[4][0].original.spec["subset"] == {"train_per_class": 4, "heldout_per_class": 4}


def test_a_subset_is_the_same_for_every_seed(manifest: Manifest) -> None:
    made = plan(load_job(Path("job.yaml"), ["dataset.subset={train_per_class: 5}"]), [manifest])
    first, second = (set(made.roles[group.roles_name].sample_ids) for group in made.groups)
    assert first == second
    assert len(first) == 3 * (5 + 8)


def test_noise_gives_training_images_wrong_labels_and_no_others(manifest: Manifest) -> None:
    """A fifth of 20 is 4 of each class. Roles stay as they are, and so do held-out labels."""
    _, plain = planned(manifest)
    group, roles = planned(manifest, "label_noise=0.2")
    assert (roles.sample_ids, roles.roles.tolist()) == (plain.sample_ids, plain.roles.tolist())
    changed = wrong(roles)
    assert sorted(name[:2] for name in changed) == ["t0"] * 4 + ["t1"] * 4 + ["t2"] * 4
    assert set(changed.values()) == {0, 1, 2}
    assert group.setting == "instance_25pct_noise20pct"
    assert group.notes[0].startswith("12 of 60 training images have wrong labels")
    assert group.original.spec["label_noise"] == 0.2
    more = wrong(planned(manifest, "label_noise=0.4")[1])
    assert more.items() > changed.items()


def test_nothing_changes_where_nothing_is_asked_for(manifest: Manifest) -> None:
    group, roles = planned(manifest)
    assert not wrong(roles)
    assert not {"subset", "label_noise", "corrupt"} & set(group.original.spec)
    assert len({planned(manifest, *each)[0].original.cell_id for each in (
        (), ("label_noise=0.2",), ("corrupt={swap: [a, b], share: 0.5}",),
        ("subset={train_per_class: 9}",),
    )}) == 4  # fmt: skip


def test_two_classes_are_swapped_in_part_and_may_be_forgotten(manifest: Manifest) -> None:
    group, roles = planned(
        manifest, "corrupt={swap: [a, c], share: 0.5}", "forget={corrupted: true}"
    )
    changed = wrong(roles)
    assert (
        sorted(f"{name[1]}{label}" for name, label in changed.items()) == ["02"] * 10 + ["20"] * 10
    )
    assert {roles.sample_ids[row] for row in roles.indices(FORGET)} == set(changed)
    assert group.setting == "corrupted_swap-a-c-50pct"
    assert all(len(roles.indices(role)) for role in ROLES)


@pytest.mark.parametrize(
    ("dataset", "what"),
    [
        (("corrupt={swap: [a, x], share: 0.5}",), "no class 'x'"),
        (("corrupt={swap: [a, a], share: 0.5}",), "two classes to swap are one"),
        (("label_noise=0.01",), "no image gets a wrong label"),
        (("label_noise=0.1", "corrupt={swap: [a, b], share: 0.5}"), "either label_noise or"),
        (("forget={corrupted: true}",), "needs label_noise or corrupt"),
        (("subset={}",), "give train_per_class"),
        (("forget={by: x.csv, key: user}",), "by, key and values belong together"),
        (("forget={fraction: 0.1, column: x}",), "column belongs to ids or by"),
    ],
)
def test_what_cannot_be_is_refused(manifest: Manifest, dataset: tuple[str, ...], what: str) -> None:
    with pytest.raises((DataError, JobError), match=what):
        planned(manifest, *dataset)


def test_the_photographs_of_people_are_forgotten(manifest: Manifest) -> None:
    """Their held-out ones are not, and those outside of a subset cannot be: notes say so."""
    ids = ["t000", "t001", "t100", "h000", "t219"]
    users = ["7", "8", "8", "8", "9"]
    rows = [f"{name};{user}" for name, user in zip(ids, users, strict=True)]
    Path("people.csv").write_text("\ufeffimage;user\r\n" + "\r\n".join(rows) + "\r\n")
    forget = "forget={by: people.csv, key: user, values: [7, 8], column: image}"
    group, roles = planned(manifest, forget)
    assert {roles.sample_ids[row] for row in roles.indices(FORGET)} == set(ids[:3])
    assert group.setting == "user_7_8"
    assert group.notes[0].startswith("1 images of forget.by are held out")
    group, roles = planned(manifest, forget, "subset={train_per_class: 19}")
    assert any("outside of the subset" in note for note in group.notes) == (
        len(roles.indices(FORGET)) < 3
    )


def test_unknown_ids_are_named_by_file_and_line(manifest: Manifest) -> None:
    Path("ids.csv").write_text("name\nt000\nt999\n")
    with pytest.raises(DataError, match="1 ids to forget are not in the data set: t999") as raised:
        planned(manifest, "forget={ids: ids.csv, column: name}")
    assert raised.value.where == "ids.csv:3"


def test_images_that_play_no_role_may_lie_outside_of_a_subset(manifest: Manifest) -> None:
    """An id that no image has is told with its line."""
    Path("without.txt").write_text("\n".join(f"t0{n:02d}" for n in range(10)) + "\n")
    without = "retain={without: without.txt}"
    subset = ("subset={train_per_class: 12}", "forget={classes: [b]}")
    _, roles = planned(manifest, *subset, without)
    assert not {f"t0{n:02d}" for n in range(10)} & set(roles.sample_ids)
    assert any(name.startswith("t0") for name in roles.sample_ids)
    with Path("without.txt").open("a") as file:
        file.write("t999\n")
    with pytest.raises(DataError, match="1 ids to leave out are not in the data set") as raised:
        planned(manifest, without)
    assert raised.value.where == "without.txt:11"
