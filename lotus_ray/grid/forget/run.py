"""A deletion request from its options to its folder. The same command again goes on."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.torch import load, save

from lotus_ray.audit.commitment import CommitmentKey
from lotus_ray.audit.envelope import new_envelope, to_bytes
from lotus_ray.audit.folder import FAILED_WEIGHTS, PAGE, RECORD, WEIGHTS
from lotus_ray.audit.gates import RELEARN
from lotus_ray.audit.page import to_page
from lotus_ray.audit.predicate import Predicate
from lotus_ray.audit.purge import note_request
from lotus_ray.base.errors import CellError, DataError
from lotus_ray.base.roles import FORGET
from lotus_ray.data.pixels.near_duplicates import NearDuplicates, near_duplicates
from lotus_ray.data.prepared.embedded import embedded_folder
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.grid.forget.chain import Earlier
from lotus_ray.grid.forget.ids import AskedIds, check_found, find_ids, read_requests
from lotus_ray.grid.forget.job_file import write_job
from lotus_ray.grid.forget.key import check_same, known_key, make_key
from lotus_ray.grid.forget.one_cell import WITHOUT_RECIPE, load_one
from lotus_ray.grid.forget.place import earlier_answer, write_folder
from lotus_ray.grid.forget.record import Measured, make_record
from lotus_ray.grid.forget.wish import Wish
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome
from lotus_ray.grid.run import run_grid
from lotus_ray.job.datasets import locate_data
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.samples import Samples
from lotus_ray.metrics.outputs import SAMPLES, TENSORS, Outputs
from lotus_ray.models.weights import WEIGHTS as WEIGHTS_OF_ROW
from lotus_ray.models.weights import file_digest
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

_LEAST_TIMES_CHANCE = 2


@dataclass(frozen=True)
class Answer:
    """An answered request: its folder, and what its record says."""

    folder: Path
    record: Predicate
    is_new: bool


def forget(wish: Wish, say: Callable[[str], None]) -> Answer:
    """Answer a deletion request, or say how it was answered.

    Args:
        wish: the options.
        say: takes lines for people.

    Returns:
        The answer. If a gate failed, its folder is not the wished one.

    Raises:
        LotusRayError: an option, the data, the store or a key is wrong, or the run failed. The
            output does not exist then.
    """
    received = wish.received_utc()
    wish.check()
    done = earlier_answer(wish)
    asked = read_requests(wish.ids, wish.names())
    key = known_key(wish, is_needed=done is not None)
    if done and key:
        check_same(done.predicate, asked, key, wish)
        return Answer(done.folder, done.predicate, is_new=False)
    earlier = Earlier.read(wish.after, key)
    for note in earlier.notes(wish.weights, wish.model):
        say(note)
    if earlier.weights and wish.job is None:
        wish = replace(wish, weights=earlier.weights, model=earlier.predicates[-1].input_model.name)
    path = wish.job or write_job(wish, say)
    options = [*wish.overrides, *wish.gate_overrides()]
    if earlier.weights:
        options += [f"model.initial_checkpoint={json.dumps(str(earlier.weights.absolute()))}"]
        options.append(WITHOUT_RECIPE)
    loaded = load_one(path, wish.method, options, wish.imports, say)
    if not loaded.document.contains((RELEARN,)):
        options.append(f"{RELEARN}={{}}")
    store = Store.open(wish.store or loaded.job.store)
    with tempfile.TemporaryDirectory() as scratch:
        requests, samples = _find(loaded, store, asked, wish, earlier, key, Path(scratch))
        _say_ids(requests, say)
        found = list(dict.fromkeys(each for request in requests for each in request.found))
        pairs = near_duplicates(
            samples.folders, samples.labels, found, loaded.job.resources.cpus_per_worker
        )
        _say_near(pairs, say)
        known = samples.labels["sample_id"].to_pylist()
        before = earlier.forgotten_among(known, key).difference(found)
        say(_roles_line(samples, len(found), len(before)))
        ids = _write_ids(Path(scratch) / "forget.txt", found)
        options += [f"dataset.forget={{ids: {json.dumps(ids)}}}"]
        if before:
            without = _write_ids(Path(scratch) / "without.txt", sorted(before))
            options += [f"dataset.retain.without={json.dumps(without)}"]
        loaded = load_one(path, wish.method, options, wish.imports)
        outcome = run_grid(loaded, store, Options(local=loaded.job.resources.workers == 1))
    measured = _measured(outcome, store)
    _check_recognises(measured, loaded)
    group = outcome.planned.groups[0]
    if note := earlier.note_on_images(measured.rows["unlearned"].spec["data"]):
        say(note)
    for note in _notes_on_curves(measured):
        say(note)
    key = key or make_key(wish, say)
    record = make_record(
        measured,
        group,
        requests,
        pairs,
        key,
        earlier,
        len(before),
        loaded.job.gates,
        received,
        wish.retrain_at,
        _input_model(measured.rows["original"], group.checkpoint, earlier),
    )
    images = Path(loaded.job.grid.datasets[0].manifest or "").absolute()
    own = images if images.is_relative_to(wish.work.absolute()) else None
    for request in record.requests:
        note_request(store, request.request_id, measured.rows["unlearned"].spec["roles"], own)
    return _write(wish, record, measured.rows["unlearned"], store, earlier)


def _find(
    loaded: LoadedJob,
    store: Store,
    asked: Sequence[tuple[str, Sequence[str]]],
    wish: Wish,
    earlier: Earlier,
    key: CommitmentKey | None,
    scratch: Path,
) -> tuple[list[AskedIds], Samples]:
    """Find the ids of the requests among the images; without files, draw the job's forget set."""
    existing = embedded_folder(store)
    manifests = locate_data(loaded, existing if existing.exists() else scratch)
    dataset = loaded.job.grid.datasets[0]
    samples = Samples.read(dataset, manifests[0])
    known = samples.labels["sample_id"].to_pylist()
    where = ", ".join(map(str, wish.ids)) or "dataset.forget"
    if not asked:
        roles, _ = samples.draw(loaded.job.grid.seeds[0], True, None)
        drawn = tuple(roles.sample_ids[row] for row in roles.indices(FORGET))
        asked = [((*wish.request_ids, "request-1")[0], drawn)]
    requests = find_ids(asked, samples.labels, earlier.forgotten_among(known, key))
    check_found(requests, samples.labels, wish.allow_missing, where)
    return requests, samples


def _roles_line(samples: Samples, forgotten: int, left_out: int) -> str:
    """Say how many images play which part."""
    splits = samples.labels["split"].to_pylist()
    trained, held_out = splits.count(TRAIN), splits.count(HELDOUT)
    aside = f", {left_out} left out as forgotten before" if left_out else ""
    return (
        f"{forgotten} images to forget, {trained - forgotten - left_out} to keep{aside}, "
        f"{held_out} never trained on: half of these serve the method, half only measure"
    )


def _say_ids(requests: Sequence[AskedIds], say: Callable[[str], None]) -> None:
    for request in requests:
        for line in request.lines():
            say(line)


def _say_near(pairs: NearDuplicates, say: Callable[[str], None]) -> None:
    """Say which images look like images to forget."""
    for found, what in (
        (pairs.kept, "look like training images that are not to be forgotten"),
        (pairs.held_out, "look like held-out images"),
        (pairs.inside, "look like each other"),
    ):
        if found:
            named = ", ".join(f"{one} = {other}" for one, other in found[:3])
            more = ", …" if len(found) > 3 else ""
            say(f"{len({one for one, _ in found})} images to forget {what}: {named}{more}")


def _write_ids(path: Path, ids: Sequence[str]) -> str:
    path.write_text("\n".join(ids) + "\n")
    return str(path)


def _measured(outcome: Outcome, store: Store) -> Measured:
    """Return rows and outputs. Raise CellError if a cell failed."""
    group = outcome.planned.groups[0]
    names = {"original": group.cells[0], "unlearned": group.cells[-1]}
    if len(group.cells) == 3:
        names["gold"] = group.cells[1]
    rows: dict[str, Row] = {}
    for name, cell in names.items():
        row = outcome.rows.get(cell.cell_id)
        if row is None or not row.is_ok:
            failed = row.error if row else None
            raise CellError(
                failed.message if failed else outcome.error or "the cell did not run",
                where=f"{cell.label}, {group.name}",
                next_command="mend it, and run the same command again",
            )
        rows[name] = row
    files = {
        name: (store.artifact(row, SAMPLES), store.artifact(row, TENSORS))
        for name, row in rows.items()
    }
    ids = pq.read_table(io.BytesIO(files["unlearned"][0]), columns=["sample_id"])
    return Measured(
        rows,
        {name: Outputs.from_files(*each) for name, each in files.items()},
        ids["sample_id"].to_pylist(),
    )


def _notes_on_curves(measured: Measured) -> Iterator[str]:
    """Say of which model the relearn curve was asked for and is undefined, and why."""
    for name, who in (("unlearned", "the new model"), ("gold", "gold")):
        row = measured.rows.get(name)
        if why := ((row and row.relearn) or {}).get("undefined"):
            yield f"there is no relearn curve of {who}: {why}"


def _check_recognises(measured: Measured, loaded: LoadedJob) -> None:
    """Raise DataError if the model hardly recognises what it was trained on: then all is wrong."""
    accuracy = measured.rows["original"].metrics.get("retain_accuracy")
    classes = measured.outputs["original"].forget_probs.shape[1]
    least = min(_LEAST_TIMES_CHANCE / classes, (1 + 1 / classes) / 2)
    if accuracy is not None and accuracy < least:
        raise DataError(
            f"the model recognises {accuracy:.1%} of its own training images, where chance is "
            f"{1 / classes:.1%}: other images, another order of classes, or another size or "
            "normalisation than it was trained with",
            where=loaded.job.grid.models[0].name,
            next_command="lotus-ray forget … --img-size 224 --mean 0.485,0.456,0.406 "
            "--std 0.229,0.224,0.225",
        )


def _input_model(original: Row, checkpoint: str | None, earlier: Earlier) -> dict[str, Any]:
    if earlier.weights:
        source, exists = "the output of the request before", "in the folder of that request"
    elif checkpoint:
        source, exists = "a file that was given", "in the file that was given, and its copies"
    else:
        source, exists = "trained by the job", "in the store of the run"
    digest = file_digest(Path(checkpoint)) if checkpoint else None
    return {
        "sha256": digest or original.artifacts[WEIGHTS_OF_ROW].sha256,
        "source": source,
        "still_exists": exists,
    }


def _write(wish: Wish, record: Predicate, row: Row, store: Store, earlier: Earlier) -> Answer:
    """Write the folder; if a gate failed, another one, with weights that say so."""
    weights, name, folder = store.artifact(row, WEIGHTS_OF_ROW), WEIGHTS, wish.output
    if record.outcome == "failed":
        name, folder = FAILED_WEIGHTS, wish.failed
        weights = save(load(weights), metadata={"lotus-ray": "a gate failed: do not use"})
    output = record.output_model.model_copy(
        update={
            "file": name,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "bytes": len(weights),
        }
    )
    record = record.model_copy(update={"output_model": output})
    files = {name: weights, PAGE: to_page(record).encode()}
    content = to_bytes(new_envelope(record, files))
    write_folder(folder, {**files, **earlier.files(), RECORD: content})
    return Answer(folder, record, is_new=True)
