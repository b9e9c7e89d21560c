from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lotus_ray import metrics
from lotus_ray.base.errors import DataError, JobError
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.job.cells import Cell
from lotus_ray.job.load import load_job
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.plan import Plan, plan
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.scrub import Scrub
from tests.toy import Sample, source

JOB = """\
store: runs/x
epochs: 3
grid:
  methods:
    - original
    - gold
    - finetune
    - {name: lotus, alpha: 8}
  datasets:
    - {name: Toy, manifest: unused, forget: {fraction: 0.3}, img_size: 8}
  models:
    - {name: resnet18_cifar, label: Net, options: {width: 4}, train: {epochs: 2, lr: 0.1}}
  seeds: [13]
"""
ALL = {"original", "gold", "finetune", "lotus"}
RIVALS = {"finetune", "lotus"}


def samples(label_of_first: int = 0) -> list[Sample]:
    """Return 24 training and 12 held-out samples of two classes."""
    made = []
    for number in range(36):
        split = TRAIN if number < 24 else HELDOUT
        label = label_of_first if number == 0 else number % 2
        made.append(Sample(f"s{number:02d}", split, b"%d" % number, "", label))
    return made


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepare(source(samples(), ("a", "b")), tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(autouse=True)
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB)


def planned(manifest: Manifest, *overrides: str, limit: int | None = None) -> Plan:
    """Plan the job with some values changed; every data set is the same one."""
    loaded = load_job(Path("job.yaml"), overrides)
    manifests = [manifest] * len(loaded.job.grid.datasets)
    return plan(loaded, manifests, limit)


def method_of(cell: Cell) -> str:
    """Return the name of a cell's method."""
    return str(cell.spec["method"]["name"])


def ids(manifest: Manifest, *overrides: str, limit: int | None = None) -> dict[str, str]:
    """Return the id of the only cell of each method."""
    cells = planned(manifest, *overrides, limit=limit).cells
    found = {method_of(cell): cell.cell_id for cell in cells}
    assert len(found) == len(cells)
    return found


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the methods whose cells are not the same."""
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_an_id_by_hand() -> None:
    """SHA-256 of '{"a": [1.5, null], "b": "x"}', keys sorted: its first 20 digits."""
    cell = Cell("X", {"b": "x", "a": [1.5, None]})
    assert cell.cell_id == "5386e1f6dc1519f37d4b"


def test_ids_are_the_same_again_and_all_different(manifest: Manifest) -> None:
    assert ids(manifest) == ids(manifest)
    assert len(set(ids(manifest).values())) == 4
    assert all(len(cell_id) == 20 for cell_id in ids(manifest).values())


@pytest.mark.parametrize(
    "override",
    [
        "grid.seeds.0=14",
        "precision=fp64",
        "grid.datasets.0.forget.fraction=0.5",
        "grid.datasets.0.img_size=9",
        "grid.datasets.0.crop_pct=0.9",
        "grid.datasets.0.interpolation=bilinear",
        "grid.datasets.0.mean=[0, 0, 0]",
        "grid.datasets.0.std=[1, 1, 1]",
        "grid.models.0.name=torchvision/resnet18",
        "grid.models.0.options.width=5",
        "grid.models.0.train.epochs=4",
        "grid.models.0.train.lr=0.2",
        "grid.models.0.train.batch_size=64",
        "grid.models.0.train.optimizer=adamw",
        "grid.models.0.train.warmup_epochs=1",
    ],
)
def test_what_every_result_depends_on_changes_every_id(manifest: Manifest, override: str) -> None:
    assert differing(ids(manifest), ids(manifest, override)) == ALL


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("batch_size=64", RIVALS),
        ("epochs=4", RIVALS),
        ("grid.methods.3.alpha=2", {"lotus"}),
        ("grid.methods.3.lr=0.5", {"lotus"}),
        ("grid.methods.3.batch_size=64", {"lotus"}),
        ("defaults.methods.lotus.batch_size=64", {"lotus"}),
        ("grid.methods.2={name: finetune, momentum: 0.5}", {"finetune"}),
        ("relearn={}", {"gold", *RIVALS}),
    ],
)
def test_what_some_results_depend_on_changes_their_ids(
    manifest: Manifest, override: str, expected: set[str]
) -> None:
    assert differing(ids(manifest), ids(manifest, override)) == expected


@pytest.mark.parametrize(
    "override",
    [
        "store=runs/y",
        "relearn=null",
        "offline=true",
        "model.expected_accuracy=0.5",
        "model.accuracy_tolerance=0.5",
        "resources.workers=4",
        "resources={workers: 4, min_workers: 2}",
        "resources.cpus_per_worker=4",
        "resources.gpus_per_worker=1",
        "grid.datasets.0.manifest=elsewhere",
        "grid.datasets.0.name=Other",
        "grid.datasets.0.setting=other",
        "grid.models.0.label=Other",
        "grid.methods.3={alpha: 8.0, epochs: 3, name: lotus}",
        "grid.methods=[{name: lotus, alpha: 8}, finetune, gold, original]",
        "batch_size=128",
        "grid.methods.3.batch_size=128",
        "grid.methods.3.batch_size=null",
        "defaults.methods.scrub.batch_size=64",
    ],
)
def test_what_no_result_depends_on_changes_no_id(manifest: Manifest, override: str) -> None:
    assert differing(ids(manifest), ids(manifest, override)) == set()


def test_ids_do_not_depend_on_the_place_of_the_data(manifest: Manifest, tmp_path: Path) -> None:
    shutil.copytree(manifest.directory, tmp_path / "copy")
    assert ids(read_manifest(tmp_path / "copy")) == ids(manifest)


def test_ids_depend_on_the_content_of_the_data(manifest: Manifest, tmp_path: Path) -> None:
    other = prepare(source(samples(label_of_first=1), ("a", "b")), tmp_path / "other")
    assert differing(ids(manifest), ids(other)) == ALL


def test_a_limit_that_cuts_changes_every_id(manifest: Manifest) -> None:
    assert differing(ids(manifest), ids(manifest, limit=3)) == ALL
    assert differing(ids(manifest, limit=4), ids(manifest, limit=3)) == ALL


def test_a_limit_that_cuts_nothing_is_no_limit(manifest: Manifest) -> None:
    assert differing(ids(manifest), ids(manifest, limit=1000)) == set()
    (group,) = planned(manifest, limit=1000).groups
    assert (group.limit, group.setting) == (None, "instance_30pct")


def test_data_sets_of_one_name_keep_data_of_their_own(manifest: Manifest, tmp_path: Path) -> None:
    other = prepare(source(samples(label_of_first=1), ("a", "b")), tmp_path / "other")
    toy = "{name: Toy, manifest: unused, forget: {fraction: 0.3}, img_size: 8}"
    loaded = load_job(Path("job.yaml"), [f"grid.datasets=[{toy}, {toy}]"])
    first, second = plan(loaded, [manifest, other]).groups
    assert (first.manifests, second.manifests) == ((manifest.directory,), (other.directory,))
    assert first.original.cell_id != second.original.cell_id


def test_the_same_cells_under_two_names_are_refused(manifest: Manifest) -> None:
    net = "{name: resnet18_cifar, label: %s, train: {epochs: 2}}"
    with pytest.raises(JobError, match="are the same"):
        planned(manifest, f"grid.models=[{net % 'A'}, {net % 'B'}]")


def test_a_checkpoint_counts_by_its_content_and_not_by_its_name(
    manifest: Manifest, tmp_path: Path
) -> None:
    for name, content in (("a.pth", b"one"), ("b.pth", b"one"), ("c.pth", b"two")):
        (tmp_path / name).write_bytes(content)
    key = "grid.models.0.initial_checkpoint="
    first, same, other = (ids(manifest, f"{key}{name}.pth") for name in "abc")
    assert differing(first, same) == set()
    assert differing(first, other) == differing(first, ids(manifest)) == ALL
    with pytest.raises(JobError, match="weights file cannot be read"):
        ids(manifest, f"{key}d.pth")


def test_a_checkpoint_takes_the_place_of_pretrained_weights(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Without one, false, true and a name are three models; with one they are the same."""
    (tmp_path / "a.pth").write_bytes(b"one")
    network = "model.name=torchvision/resnet18"
    wanted = [f"model.pretrained={weights}" for weights in ("false", "true", "IMAGENET1K_V1")]
    found = [planned(manifest, network, w).cells for w in wanted]
    assert [cells[0].spec["model"]["pretrained"] for cells in found] == [
        False,
        True,
        "IMAGENET1K_V1",
    ]
    assert len({cells[0].cell_id for cells in found}) == 3
    given = [planned(manifest, network, w, "model.initial_checkpoint=a.pth") for w in wanted]
    assert len({plan.groups[0].original.cell_id for plan in given}) == 1
    assert given[1].cells[0].spec["model"]["pretrained"] is False
    assert not given[1].groups[0].model.pretrained  # so that nothing is downloaded


def test_a_new_version_of_the_metrics_changes_every_id(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ids(manifest)
    monkeypatch.setattr(metrics, "VERSION", metrics.VERSION + 1)
    assert differing(before, ids(manifest)) == ALL


def test_a_new_version_of_a_method_changes_its_id(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ids(manifest)
    monkeypatch.setattr(Lotus, "version", Lotus.version + 1)
    assert differing(before, ids(manifest)) == {"lotus"}


def test_groups_are_data_sets_times_models_times_seeds(manifest: Manifest) -> None:
    """2 data sets, 3 models and 2 seeds, of which one is listed twice: 12 groups of 4 cells."""
    both = "grid.datasets=[{name: A, manifest: x, forget: {fraction: 0.3}, img_size: 8}, "
    both += "{name: B, manifest: x, forget: {fraction: 0.3}, img_size: 9}]"
    three = "grid.models=["
    three += "".join(
        f"{{name: resnet18_cifar, options: {{width: {width}}}, train: {{epochs: 2}}}}, "
        for width in (4, 5, 6)
    )
    found = planned(manifest, both, f"{three}]", "grid.seeds=[1, 2, 1]")
    assert len(found.groups) == 12
    assert len({(group.benchmark, str(group.model), group.seed) for group in found.groups}) == 12
    assert len({cell.cell_id for cell in found.cells}) == 48
    assert all(group.roles_name in found.roles for group in found.groups)
    assert len(found.roles) == 2


def test_the_original_comes_first_wherever_it_is_listed(manifest: Manifest) -> None:
    for methods in ("[lotus, original]", "[lotus]", "[gold, lotus]", "[lotus, gold, original]"):
        (group,) = planned(manifest, f"grid.methods={methods}").groups
        expected = ["original", *(["gold"] if "gold" in methods else []), "lotus"]
        assert [method_of(cell) for cell in group.cells] == expected
        assert group.original == group.cells[0]


def test_a_method_listed_twice_is_one_cell_and_its_variants_are_two(manifest: Manifest) -> None:
    twice = "{name: lotus, alpha: 8}, {name: lotus, alpha: 8.0}"
    variants = "{name: lotus, alpha: 8}, {name: lotus, alpha: 4}"
    for methods, cells in ((twice, 2), (variants, 3)):
        assert len(planned(manifest, f"grid.methods=[{methods}]").cells) == cells


def batch_sizes(manifest: Manifest, *overrides: str) -> dict[str, int | None]:
    """Return the batch size that the spec of each method's only cell has."""
    cells = planned(manifest, *overrides).cells
    return {method_of(cell): cell.spec.get("batch_size") for cell in cells}


def test_a_batch_size_of_a_method_goes_before_its_defaults_and_those_before_the_jobs(
    manifest: Manifest,
) -> None:
    by_default, own = "defaults.methods.lotus.batch_size=32", "grid.methods.3.batch_size=16"
    assert batch_sizes(manifest)["lotus"] == 128
    assert batch_sizes(manifest, by_default)["lotus"] == 32
    found = batch_sizes(manifest, by_default, own)
    assert found == {"original": None, "gold": None, "finetune": 128, "lotus": 16}
    three = "{name: lotus, batch_size: 16}, {name: lotus, batch_size: 128}, lotus"
    assert len(planned(manifest, f"grid.methods=[{three}]").cells) == 3


def test_a_wrapped_method_has_the_batches_of_its_wrapper(manifest: Manifest) -> None:
    """The defaults of Rnd Labeling alone do not count within SalUn."""
    salun = "grid.methods=[{name: salun, batch_size: 8}]"
    (_, cell) = planned(manifest, salun, "defaults.methods.relabel.batch_size=64").cells
    assert cell.spec["batch_size"] == 8
    assert "batch_size" not in cell.spec["method"]["inner"]


def test_a_newer_hyper_parameter_counts_only_where_it_is_given(manifest: Manifest) -> None:
    """A list in YAML, in the identity and in the method; at their defaults ids stay."""
    key = "grid.methods=[{name: scrub%s}]"
    plain, decayed = (ids(manifest, key % more)["scrub"] for more in ("", ", lr_decay: [3, 5, 9]"))
    assert plain != decayed
    for default in ("lr_decay: []", "lr_decay_rate: 0.1", "max_weight_decay: null"):
        assert ids(manifest, key % f", {default}")["scrub"] == plain
    assert ids(manifest, key % ", max_weight_decay: 0")["scrub"] not in (plain, decayed)
    (_, cell) = planned(manifest, key % ", lr_decay: [3, 5, 9]").cells
    assert cell.spec["method"]["lr_decay"] == [3, 5, 9]
    assert build_method(cell.spec["method"]) == Scrub(epochs=3, lr_decay=(3, 5, 9))


def test_every_rival_starts_from_the_original_of_its_group(manifest: Manifest) -> None:
    for group in planned(manifest, "grid.seeds=[1, 2]").groups:
        weights = {method_of(cell): cell.spec.get("weights") for cell in group.cells}
        original = group.original.cell_id
        assert weights == {
            "original": None,
            "gold": None,
            "finetune": original,
            "lotus": original,
        }


def test_a_group_says_what_reports_need(manifest: Manifest) -> None:
    (group,) = planned(manifest).groups
    assert (group.benchmark, group.model_label, group.seed) == ("Toy", "Net", 13)
    assert (group.setting, group.limit) == ("instance_30pct", None)
    assert group.model.num_classes == 2
    assert group.manifests == (manifest.directory.absolute(),)
    (short,) = planned(manifest, limit=3).groups
    assert (short.setting, short.limit) == ("instance_30pct_smoke3", 3)
    (unnamed,) = planned(manifest, "grid.models.0.label=null").groups
    assert unnamed.model_label == "resnet18_cifar"


def test_a_calibration_set_is_part_of_the_identity(manifest: Manifest, tmp_path: Path) -> None:
    extra = [Sample(f"c{n}", TRAIN, b"%d" % n, "", n % 2) for n in range(4)]
    prepare(source(extra, ("a", "b")), tmp_path / "extra")
    other = [*extra[:3], Sample("c3", TRAIN, b"other", "", 1)]
    prepare(source(other, ("a", "b")), tmp_path / "other")
    key = "grid.datasets.0.calibration.manifest="
    first, second = ids(manifest, f"{key}extra"), ids(manifest, f"{key}other")
    assert differing(ids(manifest), first) == ALL
    assert differing(first, second) == ALL  # alike in ids and labels, not in an image
    (group,) = planned(manifest, f"{key}extra").groups
    assert group.manifests == (manifest.directory, tmp_path / "extra")
    assert group.setting == "instance_30pct_calibrated-extra"


def test_data_of_another_kind_are_refused(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="Toy has 2 classes, and 3 in the job"):
        planned(manifest, "grid.datasets.0.num_classes=3")
    with pytest.raises(DataError, match="was prepared from toy") as raised:
        planned(manifest, "grid.datasets.0.source=cifar10")
    assert raised.value.next_command == (
        "write source: toy; "
        f"or lotus-ray prepare cifar10 {manifest.directory}-cifar10 --root FOLDER"
    )
    assert planned(manifest, "grid.datasets.0.num_classes=2").groups


def test_folders_may_hold_the_images_of_any_source(manifest: Manifest) -> None:
    """CIFAR-10 unpacked to files, as people have it: the job needs no edit."""
    folders = replace(manifest, dataset="image_folder")
    (group,) = planned(folders, "grid.datasets.0.source=cifar10").groups
    assert group.notes[0] == "prepared from folders of images; the job says cifar10"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The samples of class a all show one image."""
    made = [replace(s, image=b"one") if s.label == 0 else s for s in samples()]
    return prepare(source(made, ("a", "b")), tmp_path_factory.mktemp("odd") / "toy")


def test_a_group_knows_what_is_odd_about_its_data(odd: Manifest, manifest: Manifest) -> None:
    """One image under four roles: six pairs of roles share it."""
    (group,) = planned(odd, "grid.datasets.0.forget={classes: [a]}").groups
    absent = "holds no image of 1 of 2 classes, which metrics by class leave out:"
    assert group.notes[:2] == (f"forget {absent} b", f"retain {absent} a")
    assert len(planned(odd).groups[0].notes) == 6
    assert planned(manifest).groups[0].notes == ()


def test_a_note_is_said_once_for_all_models_and_seeds(odd: Manifest) -> None:
    net = "{name: resnet18_cifar, options: {width: %d}, train: {epochs: 2}}"
    forget = "grid.datasets.0.forget={classes: [a]}"
    models = f"grid.models=[{net % 4}, {net % 5}]"
    found = planned(odd, forget, models, "grid.seeds=[13, 14]")
    assert len(found.groups) == 4
    absent = "retain holds no image of 1 of 2 classes, which metrics by class leave out: a"
    assert [note for note in found.notes if absent in note] == [
        f"Toy, class_a, seed 13, 14: {absent}"
    ]


def test_notes_change_no_id(odd: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(odd)
    monkeypatch.setattr("lotus_ray.job.samples.notes_on", lambda *_: ("something else",))
    assert ids(odd) == before
