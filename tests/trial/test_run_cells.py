"""A group in this process: rows, artifacts, failures, and what is skipped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save
from scipy.spatial.distance import jensenshannon

from lotus_ray import models
from lotus_ray.base.errors import ArtifactDamaged, DataError, StoreUnreachable
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import SOURCES
from lotus_ray.grid import local
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.metrics.outputs import TENSORS, forget_probs, random_forget_probs
from lotus_ray.models import ModelSpec
from lotus_ray.models.weights import WEIGHTS, weights_from_bytes, weights_to_bytes
from lotus_ray.report.collect import collect
from lotus_ray.report.entries import groups
from lotus_ray.report.notes import notes
from lotus_ray.store.attempts import Attempt
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.trial.inputs import load_roles
from lotus_ray.trial.original import load_original
from lotus_ray.unlearning.checkpoint import Checkpoint
from lotus_ray.unlearning.contract import Phase, SampleSet
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.problem import Problem

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
QUICK = [
    "grid.methods=[original, gold, finetune, {name: lotus, alpha: 8}]",
    "epochs=1",
    "grid.models.0.train={epochs: 12, batch_size: 16}",
    "grid.models.0.options={width: 4}",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepare(SOURCES["digits"], tmp_path_factory.mktemp("data") / "digits")


def plan_group(data: Manifest, store: Path, *overrides: str) -> tuple[CellGroup, Store, WorkOrder]:
    """Plan a small group and write its roles; everything is missing."""
    planned = plan(load_job(JOB, [*QUICK, *overrides]), [data], limit=40)
    opened = Store.open(str(store))
    for name, roles in planned.roles.items():
        opened.put(name, roles.to_parquet())
    group = planned.groups[0]
    return group, opened, WorkOrder(group, {cell.cell_id: 0 for cell in group.cells}, str(store))


def is_weight(name: str) -> bool:
    """Tell parameters from the buffers of batch normalisation."""
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def run_work_order(work_order: WorkOrder) -> None:
    """Run what is missing in this process."""
    local.run_cells([work_order], Resources())


def test_rows_hold_what_an_audit_needs(data: Manifest, tmp_path: Path) -> None:
    group, store, work_order = plan_group(data, tmp_path)
    run_work_order(work_order)
    rows = store.rows()
    assert rows.keys() == {cell.cell_id for cell in group.cells}
    for cell in group.cells:
        row = rows[cell.cell_id]
        assert row.status == "ok"
        assert row.spec == cell.spec
        assert row.smoke
        assert row.attempts == 1
        stages = ("prepare", "unlearn", "evaluate", "checkpoint")
        assert set(row.timing) == {f"{stage}_seconds" for stage in stages}
        assert row.resources.workers == 1
        assert all(0 <= row.metrics[f"{r}_accuracy"] <= 1 for r in ("forget", "test"))
        for name in row.artifacts:
            assert store.artifact(row, name)
    lotus = rows[group.cells[-1].cell_id]
    assert lotus.phases[0]["tau"] > 0
    original, unlearned = (
        weights_from_bytes(store.artifact(rows[c.cell_id], WEIGHTS))
        for c in (group.original, group.cells[-1])
    )
    assert not torch.equal(original["fc.weight"], unlearned["fc.weight"])
    unchanged = {"relative_distance": 0, "weights_moved": 0, "outputs_changed": 0}
    assert rows[group.original.cell_id].change == unchanged
    ours, before = (
        torch.cat([state[name].flatten() for name in sorted(state) if is_weight(name)])
        for state in (unlearned, original)
    )
    change = rows[group.cells[-1].cell_id].change
    distance = float((ours - before).norm() / before.norm())
    assert change["relative_distance"] == pytest.approx(distance, rel=1e-5)
    assert change["weights_moved"] == pytest.approx(float((ours != before).float().mean()))
    assert change["outputs_changed"] > 0.9


def test_an_original_from_the_store_serves_as_well_as_one_just_trained(
    data: Manifest, tmp_path: Path
) -> None:
    """Cell by cell, each in a group of its own, the metrics are those of one group."""
    group, whole, work_order = plan_group(data, tmp_path / "whole")
    run_work_order(work_order)
    _, parts, _ = plan_group(data, tmp_path / "parts")
    for cell in group.cells:
        run_work_order(WorkOrder(group, {cell.cell_id: 0}, str(tmp_path / "parts")))
    for cell_id, row in whole.rows().items():
        assert parts.rows()[cell_id].metrics == row.metrics


def test_a_row_says_in_which_parts_its_steps_ran(data: Manifest, tmp_path: Path) -> None:
    settings = ["grid.methods=[original, finetune]", "epochs=1", "batch_size=16"]
    recipe = "grid.models.0.train={epochs: 1, batch_size: 16}"
    loaded = load_job(JOB.with_name("digits-vit.yaml"), [*settings, recipe])
    planned = plan(loaded, [data], limit=40)
    group, weights = planned.groups[0], []
    for most in (None, 4):
        store = Store.open(str(tmp_path / str(most)))
        for name, roles in planned.roles.items():
            store.put(name, roles.to_parquet())
        versions = {cell.cell_id: 0 for cell in group.cells}
        run_work_order(
            WorkOrder(
                group,
                versions,
                store.location,
                micro_batch=most,
                micro_batch_is_auto=most is None,
            )
        )
        rows = store.rows()
        assert rows.keys() == versions.keys()
        for row in rows.values():
            assert row.status == "ok"
            assert row.resources.micro_batch == most
            assert ("micro_batch" in row.to_json()["resources"]) == (most is not None)
        finetuned = rows[group.cells[1].cell_id]
        weights.append(weights_from_bytes(store.artifact(finetuned, WEIGHTS)))
    for name, value in weights[0].items():
        assert torch.allclose(weights[1][name], value, atol=1e-4), name


def test_the_original_keeps_what_a_random_network_answers_to_the_forget_set(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once: a group that goes on later reads it, and has the metric of one whole group.

    ZRF is 1 less the mean of scipy's distance squared, between that and the cell's own answers.
    """
    group, store, work_order = plan_group(data, tmp_path)
    random_logits, forgotten = Problem.random_logits, {}

    def watched(problem: Problem, split: SampleSet) -> LogitsCache:
        for batch in split:
            forgotten.update(zip(batch.rows.tolist(), batch.images, strict=True))
        return random_logits(problem, split)

    monkeypatch.setattr(Problem, "random_logits", watched)
    run_work_order(WorkOrder(group, {group.original.cell_id: 0}, str(tmp_path)))
    images = torch.stack([forgotten[row] for row in sorted(forgotten)])

    def refuse(place: object) -> None:
        raise AssertionError("a random network was built")

    monkeypatch.setattr("lotus_ray.trial.context.Context.random_model", refuse)
    run_work_order(work_order)
    rows = store.rows()
    original = store.artifact(rows[group.original.cell_id], TENSORS)
    random = random_forget_probs(original)
    network = models.build(group.model, group.seed, "random weights")
    assert random.shape == forget_probs(original).shape == (40, 10)
    assert random.dtype == np.float64
    found = {}
    for row in rows.values():
        assert row.status == "ok"
        own = forget_probs(store.artifact(row, TENSORS))
        distances = [jensenshannon(p, q) for p, q in zip(own, random, strict=True)]
        found[row.method] = row.metrics["zrf"]
        assert found[row.method] == pytest.approx(1 - np.mean(np.square(distances)), abs=1e-12)
    assert len(set(found.values())) == 4
    with torch.no_grad():
        expected = network(images).double().softmax(dim=1).numpy()
    assert random == pytest.approx(expected, abs=1e-5)
    assert np.ptp(random, axis=0).max() > 1e-3  # so that the order of rows matters


def test_a_cell_has_the_batches_of_its_method_and_says_what_ssd_did(
    data: Manifest, tmp_path: Path
) -> None:
    """40 retained images: 4 steps of 10, and 1 of up to 128. SSD takes none, and has notes."""
    methods = "[{name: ssd, alpha: 1}, {name: ssd, alpha: 2}, {name: finetune, batch_size: 10}]"
    group, store, work_order = plan_group(data, tmp_path, f"grid.methods={methods}")
    run_work_order(work_order)
    first, second, finetune = (store.rows()[cell.cell_id] for cell in group.cells[1:])
    assert [phase["steps"] for phase in finetune.phases] == [4]
    assert finetune.spec["batch_size"] == 10
    (phase,) = first.phases
    weights = weights_from_bytes(store.artifact(first, WEIGHTS))
    before = weights_from_bytes(store.artifact(store.rows()[group.original.cell_id], WEIGHTS))
    moved = sum(int((weights[name] != before[name]).sum()) for name in weights)
    assert phase["dampened"] >= moved > 0
    assert (phase["steps"], phase["loss"], phase["forget_share"]) == (0, None, 0.5)
    assert second.phases[0]["dampened"] == 0  # one batch of each kind: α = 2 selects nothing
    (found,) = groups(collect(store))
    assert f"SSD(alpha=1.0) dampened {phase['dampened']:,} of {phase['weights']:,} weights" in (
        notes(found)
    )
    (nothing,) = [note for note in notes(found) if note.startswith("SSD(alpha=2.0) dampened 0 of")]
    assert "next to nothing can be selected with an alpha of 2 or more" in nothing


def test_a_temperature_that_is_no_number_makes_a_row_with_its_reason_on_any_worker(
    data: Manifest, tmp_path: Path
) -> None:
    """On several workers, too, the others of the group go on: all of them see the same figures."""
    methods = "[{name: lotus, alpha: 1.0e+9, class_unlearning: true}, finetune]"
    group, store, work_order = plan_group(data, tmp_path, f"grid.methods={methods}")
    run_work_order(work_order)
    lotus, finetune = (store.rows()[cell.cell_id] for cell in group.cells[1:])
    assert finetune.is_ok
    assert lotus.status == "failed"
    assert lotus.error is not None
    assert (lotus.error.type, lotus.error.traceback) == ("MethodError", "")
    assert "too large for a number" in lotus.first_error_line


def test_a_settled_cell_is_not_run(data: Manifest, tmp_path: Path) -> None:
    group, store, work_order = plan_group(data, tmp_path)
    run_work_order(WorkOrder(group, {group.original.cell_id: 0}, str(tmp_path)))
    first = store.rows()[group.original.cell_id]
    run_work_order(work_order)
    assert store.rows()[group.original.cell_id] == first
    assert len(store.rows()) == len(group.cells)


def test_a_store_that_does_not_answer_fails_no_cell(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a checkpoint is to be read; another error of the same place makes a failed row."""

    def broken(error: Exception) -> Callable[..., None]:
        def load(*_: object) -> None:
            raise error

        return load

    group, store, work_order = plan_group(data, tmp_path)
    monkeypatch.setattr(StoredCheckpoints, "load", broken(StoreUnreachable("HTTP 503")))
    with pytest.raises(StoreUnreachable):
        run_work_order(work_order)
    assert store.rows() == {}
    monkeypatch.setattr(StoredCheckpoints, "load", broken(OSError("broken")))
    run_work_order(work_order)
    assert [row.status for row in store.rows().values()] == ["failed"] * len(group.cells)


def test_a_group_cut_off_goes_on_from_the_last_checkpoint(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the seventh phase of the original: the next run trains five phases more."""
    _, whole, work_order = plan_group(data, tmp_path / "whole")
    run_work_order(work_order)
    group, store, work_order = plan_group(data, tmp_path / "cut")
    work_order = replace(work_order, checkpoint_seconds=0)
    save_if_due, offers = StoredCheckpoints.save_if_due, []

    def cut(self: StoredCheckpoints, checkpoint: Callable[[], Checkpoint]) -> None:
        save_if_due(self, checkpoint)
        if not checkpoint().losses:  # at the end of a phase
            offers.append(1)
        if len(offers) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoredCheckpoints, "save_if_due", cut)
    with pytest.raises(KeyboardInterrupt):
        run_work_order(work_order)
    assert store.rows() == {}
    run_work_order(work_order)
    original = store.rows()[group.original.cell_id]
    assert (original.attempts, original.resumed_at_phase) == (2, 7)
    assert len(original.phases) == 12
    assert original.timing["checkpoint_seconds"] > 0
    for cell_id, row in whole.rows().items():
        assert store.rows()[cell_id].artifacts[WEIGHTS].sha256 == (row.artifacts[WEIGHTS].sha256)
    assert not list((tmp_path / "cut" / "borders").rglob("*.pt"))


@dataclass(frozen=True)
class Broken(Finetune):
    """Raises what it is told to."""

    error: ClassVar[Exception] = RuntimeError("broken on purpose")

    def phases(self, problem: Problem) -> Iterator[Phase]:
        raise self.error
        yield


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("broken on purpose"), "failed"),
        (MemoryError("no memory"), "oom"),
        (torch.cuda.OutOfMemoryError("no device memory"), "oom"),
    ],
)
def test_a_failed_cell_is_a_row_and_the_others_go_on(
    data: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: str,
) -> None:
    _, store, work_order = plan_group(data, tmp_path)
    monkeypatch.setitem(METHODS, "finetune", Broken)
    monkeypatch.setattr(Broken, "error", error)
    run_work_order(work_order)
    by_method = {row.method: row for row in store.rows().values()}
    assert {name: row.status for name, row in by_method.items()} == {
        "Original": "ok",
        "Gold Std": "ok",
        "Finetuning": status,
        "LoTUS": "ok",
    }
    assert by_method["Finetuning"].metrics == {}
    assert str(error) in by_method["Finetuning"].error.message
    assert "Traceback" in by_method["Finetuning"].error.traceback


def test_a_failed_original_fails_what_starts_from_it(data: Manifest, tmp_path: Path) -> None:
    group, store, work_order = plan_group(
        data, tmp_path, "grid.models.0.train={epochs: 3, lr: 1.0e+38, batch_size: 8}"
    )
    run_work_order(work_order)
    rows = store.rows()
    assert rows[group.original.cell_id].status == "diverged"
    lotus = rows[group.cells[-1].cell_id]
    assert lotus.status == "failed"
    assert "its original was not trained" in lotus.error.message


def test_a_checkpoint_can_be_the_original(data: Manifest, tmp_path: Path) -> None:
    """Trained weights written to a file: without a recipe they are the original, unchanged."""
    group, store, work_order = plan_group(data, tmp_path / "a")
    run_work_order(work_order)
    trained = store.rows()[group.original.cell_id]
    file = tmp_path / "original.safetensors"
    file.write_bytes(store.artifact(trained, WEIGHTS))
    given, second, again = plan_group(
        data,
        tmp_path / "b",
        "grid.models.0.train={}",
        f"grid.models.0.initial_checkpoint={file}",
        "grid.methods=[original, {name: lotus, alpha: 8}]",
    )
    run_work_order(again)
    rows = second.rows()
    assert rows[given.original.cell_id].metrics == trained.metrics
    lotus = [row for row in rows.values() if row.method == "LoTUS"]
    before = next(r for r in store.rows().values() if r.method == "LoTUS")
    assert lotus[0].metrics == before.metrics


def test_another_checkpoint_at_the_same_path_is_noticed(data: Manifest, tmp_path: Path) -> None:
    """A cell's id holds the digest of the file that was planned with. Nodes may hold another."""
    spec = ModelSpec("resnet18_cifar", 10, options={"width": 4})
    file = tmp_path / "w.safetensors"
    file.write_bytes(weights_to_bytes(models.build(spec, 5)))
    group, store, work_order = plan_group(
        data,
        tmp_path / "store",
        "model.train={}",
        "model.options={width: 4}",
        f"model.initial_checkpoint={file}",
        "grid.methods=[original]",
    )
    file.write_bytes(weights_to_bytes(models.build(spec, 6)))
    run_work_order(work_order)
    row = store.rows()[group.original.cell_id]
    assert not row.is_ok
    assert "not the one that the grid was planned with" in row.first_error_line


def test_a_checkpoint_takes_the_place_of_a_download(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network cannot be reached, and the original has the weights of the file."""
    network = models.build(ModelSpec("test_vit", 10, options={"img_size": 8, "patch_size": 2}), 5)
    file = tmp_path / "w.safetensors"
    file.write_bytes(weights_to_bytes(network))
    group, store, work_order = plan_group(
        data,
        tmp_path / "store",
        "model.name=test_vit",
        "model.options={img_size: 8, patch_size: 2}",
        "model.train={}",
        "model.pretrained=true",
        f"model.initial_checkpoint={file}",
        "grid.methods=[original]",
    )

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
    run_work_order(work_order)
    row = store.rows()[group.original.cell_id]
    found = weights_from_bytes(store.artifact(row, WEIGHTS))
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_divergence_in_the_last_step_is_seen(data: Manifest, tmp_path: Path) -> None:
    """One step with lr 1e30 leaves finite weights whose outputs are not: still `diverged`."""
    _, store, work_order = plan_group(
        data,
        tmp_path,
        "grid.methods=[{name: finetune, epochs: 1, lr: 1.0e+30}, lotus]",
    )
    run_work_order(work_order)
    assert {row.method: row.status for row in store.rows().values()} == {
        "Original": "ok",
        "Finetuning": "diverged",
        "LoTUS": "ok",
    }


def test_an_original_that_fails_after_training_feeds_nobody(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights cannot be written: what starts from it fails here as in any later group."""
    _, store, work_order = plan_group(data, tmp_path, "grid.methods=[finetune]")

    def no_memory(model: torch.nn.Module) -> bytes:
        raise MemoryError("no memory")

    monkeypatch.setattr("lotus_ray.trial.cell.weights_to_bytes", no_memory)
    run_work_order(work_order)
    rows = {row.method: row for row in store.rows().values()}
    assert rows["Original"].status == "oom"
    assert "its original was not trained" in rows["Finetuning"].error.message


def test_an_original_whose_row_shows_late_is_waited_for(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node has committed it again; here the old row, which failed, shows for a while."""
    group, store, work_order = plan_group(data, tmp_path, "grid.methods=[original, {name: ssd}]")
    cell_id, row, looks = group.original.cell_id, Store.row, itertools.count()
    run_work_order(replace(work_order, row_versions={cell_id: 1}))
    good = store.row(cell_id)
    assert good is not None
    failed = replace(good, row_version=0, status="failed")

    def shown(self: Store, wanted: str) -> Any:
        if wanted == cell_id and 1 <= (look := next(looks)) <= 4:  # after the plan's own look
            return failed if look % 2 else None
        return row(self, wanted)

    method = group.cells[-1].cell_id
    monkeypatch.setattr(Store, "row", shown)
    monkeypatch.setattr("lotus_ray.store.late_row.FIRST_PAUSE_SECONDS", 0.001)
    run_work_order(replace(work_order, row_versions={cell_id: 1, method: 0}))
    assert store.rows()[method].status == "ok"
    assert next(looks) >= 5


def test_a_changed_table_of_roles_is_refused(data: Manifest, tmp_path: Path) -> None:
    group, store, work_order = plan_group(data, tmp_path)
    table = tmp_path / group.roles_name
    other = Roles.from_parquet(table.read_bytes())
    other.roles[0] = (other.roles[0] + 1) % 4
    table.write_bytes(other.to_parquet())
    with pytest.raises(DataError, match="roles changed"):
        run_work_order(work_order)
    assert store.rows() == {}


def test_a_torn_table_of_roles_is_refused(data: Manifest, tmp_path: Path) -> None:
    """At any length, or gone: the error says what to do, and no cell gets a row."""
    group, store, work_order = plan_group(data, tmp_path)
    table = tmp_path / group.roles_name
    content = table.read_bytes()
    for size in (0, 3, 100, len(content) // 2, len(content) - 9, len(content) - 1):
        table.write_bytes(content[:size])
        with pytest.raises(DataError, match="the table of roles is torn") as raised:
            run_work_order(work_order)
        assert raised.value.where == str(table)
        assert "again" in raised.value.next_command
    table.unlink()
    with pytest.raises(DataError, match="the table of roles is missing"):
        run_work_order(work_order)
    assert store.rows() == {}


def test_a_table_of_roles_with_a_flipped_byte_is_refused(data: Manifest, tmp_path: Path) -> None:
    """Whatever byte: it says so, or it reads as the same roles."""
    group, _, work_order = plan_group(data, tmp_path)
    table = tmp_path / group.roles_name
    content = table.read_bytes()
    good = Roles.from_parquet(content)
    for place in range(0, len(content), 23):
        flipped = bytearray(content)
        flipped[place] ^= 0x41
        table.write_bytes(flipped)
        try:
            found = load_roles(work_order)
        except DataError:
            continue
        assert found.digest == good.digest


@pytest.mark.parametrize("name", [WEIGHTS, TENSORS])
def test_a_damaged_original_makes_no_row_of_another_cell(
    data: Manifest, tmp_path: Path, name: str
) -> None:
    """Damaged after the grid was planned: the group ends with the store's error, exit 5."""
    group, store, work_order = plan_group(data, tmp_path)
    run_work_order(WorkOrder(group, {group.original.cell_id: 0}, str(tmp_path)))
    [row] = store.rows().values()
    file = tmp_path / row.artifacts[name].name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactDamaged, match="changed since it was written") as raised:
        run_work_order(work_order)
    assert raised.value.exit_code == 5
    assert list(store.rows().values()) == [row]


def test_cells_start_from_the_original_in_the_store_where_another_driver_was_first(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row comes between our training and our commit, with other weights than ours."""
    group, store, work_order = plan_group(data, tmp_path, "grid.methods=[original, {name: ssd}]")
    commit, theirs, taught = Store.commit, [], []

    def late(self: Store, attempt: Attempt, row: dict, artifacts: dict) -> dict:  # type: ignore[type-arg]
        if attempt.cell_id == group.original.cell_id:
            weights = weights_from_bytes(artifacts[WEIGHTS])
            changed = {name: value.clone() for name, value in weights.items()}
            changed["fc.bias"] += 1
            other = {**artifacts, WEIGHTS: save(changed)}
            theirs.append(commit(self, self.begin(attempt.cell_id, 0, {}), row, other))
        return commit(self, attempt, row, artifacts)

    load = load_original

    def loaded(*arguments: Any) -> Any:
        teacher = load(*arguments)
        taught.append(teacher.model.state_dict()["fc.bias"])
        return teacher

    monkeypatch.setattr(Store, "commit", late)
    monkeypatch.setattr("lotus_ray.trial.problem.load_original", loaded)
    run_work_order(work_order)
    rows = store.rows()
    assert rows[group.original.cell_id] == theirs[0]
    assert {row.status for row in rows.values()} == {"ok"}
    kept = weights_from_bytes(store.artifact(theirs[0], WEIGHTS))
    assert len(taught) == 1
    assert torch.equal(taught[0], kept["fc.bias"])


def test_groups_whose_images_do_not_fit_together_run_one_after_another(
    data: Manifest, tmp_path: Path
) -> None:
    """Two seeds draw other images. The first seed's are removed for the second's."""
    found = []
    for name, part in (("roomy", 3.0), ("tight", 1.2)):
        overrides = ["grid.seeds=[1,2]", "grid.methods=[original]"]
        planned = plan(load_job(JOB, [*QUICK, *overrides]), [data], limit=40)
        store = Store.open(str(tmp_path / name))
        for role, roles in planned.roles.items():
            store.put(role, roles.to_parquet())
        size = max(map(len, planned.roles.values())) * planned.groups[0].transform.image_bytes
        space = CacheSpace(0, int(part * size), str(tmp_path))
        orders = [
            WorkOrder(group, {cell.cell_id: 0 for cell in group.cells}, store.location)
            for group in planned.groups
        ]
        orders = [replace(order, cache_space=space) for order in orders]
        local.run_cells(orders, Resources())
        with local.runner_here(Resources(), space, lambda text: None) as runner:
            assert [runner.open(order) for order in orders] == [None, None]
            assert runner.is_short_of_room == (name == "tight")
            assert [runner.is_open(order) for order in orders] == [name == "roomy", True]
        rows = store.rows().values()
        assert [row.status for row in rows] == ["ok", "ok"]
        found.append({row.seed: row.metrics for row in rows})
    assert found[0] == found[1]


def test_a_group_whose_images_were_removed_while_it_rested_is_opened_anew(
    data: Manifest, tmp_path: Path
) -> None:
    """Others may remove them from then on. Without that the same context serves."""
    _, _, order = plan_group(data, tmp_path / "store")
    space = order.cache_space
    with local.runner_here(Resources(), space, lambda text: None) as runner:
        assert runner.open(order) is None
        first = runner.context(order)
        assert len(list(space.memory.glob(".use-*"))) == 1
        runner.rest()
        assert not list(space.memory.glob(".use-*"))
        assert runner.open(order) is None
        assert runner.context(order) is first
        runner.rest()
        for folder in (space.memory, space.disk):
            for path in folder.rglob("*.arrow"):
                path.unlink()
        assert runner.is_open(order)
        assert runner.open(order) is None
        again = runner.context(order)
        assert again is not first
        assert again.trial_images.newly_decoded() == first.trial_images.newly_decoded() > 0
        runner.close()
        assert not runner.is_open(order)
