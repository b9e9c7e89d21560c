"""Images, Parquet, ids and labels that are wrong, through the command: what, where, exit code 3.

Nothing is left behind that a later command could take for a result.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lotus_ray.data.prepared import check
from lotus_ray.data.prepared.manifest import Manifest, Shard, read_small, sha256_of
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from tests.cli.test_cli import DIGITS, failed, files, options, run
from tests.data.pixels.test_transform import png_header
from tests.data.prepared.test_check import renamed, retyped
from tests.toy import Canary, Sample, reseal, rewrite, source

CLASSES = ("cat", "dog", "cow")
QUICK = {
    "epochs": "1",
    "resources": "{workers: 1}",
    "grid.methods": "[finetune]",
    "grid.models.0.options": "{width: 2}",
    "grid.models.0.train": "{epochs: 1}",
}


def encoded(number: int, form: str = "PNG", mode: str = "RGB", size: int = 8) -> bytes:
    """Return an image of noise that no other number has."""
    noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, format=form)
    return buffer.getvalue()


def samples(**images: bytes) -> list[Sample]:
    """Return 24 training samples t00 … and 12 held-out ones h00 … of three classes in turn."""
    made = []
    for number in range(36):
        sample_id = f"t{number:02d}" if number < 24 else f"h{number - 24:02d}"
        split = TRAIN if number < 24 else HELDOUT
        image = images.get(sample_id, encoded(number))
        made.append(Sample(sample_id, split, image, f"{sample_id}.png", number % 3))
    return made


def theirs(folder: Path) -> dict[str, Any]:
    """Write the samples as Parquet of somebody else; return what a job says of it."""
    folder.mkdir()
    for split, name in ((TRAIN, "train"), (HELDOUT, "test")):
        of = [sample for sample in samples() if sample.split == split]
        images = [{"bytes": sample.image, "path": sample.path} for sample in of]
        table = pa.table({"image": images, "label": [sample.label for sample in of]})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=10)
    return {
        "parquet": {
            "train": [str(folder / "train.parquet")],
            "heldout": [str(folder / "test.parquet")],
            "classes": list(CLASSES),
        }
    }


class Job:
    """A small job on one data set, and the store that its grid writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.store = folder / "store"
        self.dataset: dict[str, Any] = {"forget": {"fraction": 0.25}}

    def prepare(self, of: list[Sample] | None = None) -> Manifest:
        """Prepare the samples, and let the job use them."""
        self.dataset |= {"manifest": str(self.data)}
        return prepare(source(samples() if of is None else of, CLASSES), self.data)

    def command(self, name: str) -> Any:
        """Run `validate`, or `grid` in this process."""
        dataset = json.dumps({"name": "D", "img_size": 8, **self.dataset})
        settings = options({**QUICK, "grid.datasets": f"[{dataset}]"})
        store = () if name == "validate" else ("--local", "--store", self.store)
        return run(name, DIGITS, *store, *settings)

    def refused(self) -> dict[str, str]:
        """Check that `validate` and `grid` refuse the job alike before anything is written."""
        before = files(self.folder)
        said = failed(self.command("validate"), 3)
        assert failed(self.command("grid"), 3) == said
        assert files(self.folder) == before
        return said

    def rows(self) -> dict[str, Row]:
        """Return the rows of the store by method."""
        rows = Store.open(str(self.store)).rows().values()
        return {row.method: row for row in rows}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


JPEG = encoded(0, "JPEG", size=64)
BAD_IMAGES = {
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "nothing": (b"", "it is no image"),
    "text": (b"plain text, no image", "it is no image"),
    "decompression bomb": (png_header(20_000, 20_000), "decompression bomb"),
}


@pytest.mark.filterwarnings("default")  # as it is outside of the tests
@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("sample_id", ["t05", "h03"])
def test_an_image_that_cannot_be_decoded_is_named_and_leaves_no_row(
    job: Job, kind: str, sample_id: str
) -> None:
    content, reason = BAD_IMAGES[kind]
    made = job.prepare(samples(**{sample_id: content}))
    assert job.command("validate").exit_code == 0  # images are looked at when they are decoded
    parts = failed_late(job)
    assert parts["what"].startswith("an image cannot be decoded: ")
    assert reason in parts["what"]
    assert parts["where"] == place_of(sample_id, made)


def failed_late(job: Job) -> dict[str, str]:
    """Check that the grid ends with 3 when images are decoded, and leaves nothing but that."""
    result = job.command("grid")
    assert result.exit_code == 3
    assert "Traceback" not in result.stderr
    assert job.rows() == {}
    assert not list(job.store.rglob("*.safetensors"))
    outcome = json.loads((job.store / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"], outcome["done"]) == ("ended", 3, 0)
    error = result.stderr[result.stderr.index("error: ") :].splitlines()
    parts = dict(line.strip().split(": ", 1) for line in error[1:] if line.startswith("  "))
    return {"what": error[0].removeprefix("error: "), **parts}


def place_of(sample_id: str, made: Manifest) -> str:
    """Return what errors call a sample: its id, shard and row."""
    for uri in made.paths:
        ids = pq.read_table(uri, columns=["sample_id"])["sample_id"].to_pylist()
        if sample_id in ids:
            return f"sample {sample_id} ({uri}, row {ids.index(sample_id)} of row group 0)"
    raise AssertionError(sample_id)


def test_a_cmyk_image_is_an_image(job: Job) -> None:
    job.prepare(samples(t05=encoded(5, "JPEG", "CMYK"), h03=encoded(27, "JPEG", "CMYK")))
    assert job.command("grid").exit_code == 0
    assert {row.status for row in job.rows().values()} == {"ok"}


def test_an_image_that_changed_after_it_was_prepared_is_named(job: Job) -> None:
    """One bit of its pixels, which a decoder may well not notice."""
    made = job.prepare()
    path = Path(made.paths[0])
    content = bytearray(path.read_bytes())
    image = samples()[5].image
    content[content.index(image) + len(image) // 2] ^= 1
    path.write_bytes(content)
    assert job.command("validate").exit_code == 0
    parts = failed_late(job)
    assert parts["what"] == "an image changed since it was prepared"
    assert parts["where"] == place_of("t05", made)


@pytest.mark.parametrize("keep", [0, 3, 12, 200, -100, -8, -1])
@pytest.mark.parametrize("kind", ["prepared", "in place"])
def test_a_cut_parquet_file_is_refused_by_name(job: Job, kind: str, keep: int) -> None:
    if kind == "prepared":
        path = Path(job.prepare().paths[1])
    else:
        job.dataset |= theirs(job.data)
        path = job.data / "train.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    parts = job.refused()
    assert parts["what"].startswith("the Parquet file cannot be read: ")
    assert parts["where"] == str(path)
    if kind == "prepared":
        assert parts["next"] == f"rm -r {job.data} && lotus-ray prepare toy {job.data}"


@pytest.mark.parametrize(
    ("change", "what"), [(renamed, "there is no column {0}"), (retyped, "column {0} is double")]
)
@pytest.mark.parametrize(
    ("kind", "column"),
    [
        *[("prepared", name) for name in ("sample_id", "image", "label", "sha256")],
        *[("in place", name) for name in ("image", "label")],
    ],
)
def test_a_column_of_another_name_or_type_is_refused_by_name(
    job: Job, kind: str, column: str, change: Callable[[pa.Table, str], pa.Table], what: str
) -> None:
    if kind == "prepared":
        path = job.prepare().paths[1]
    else:
        job.dataset |= theirs(job.data)
        path = str(job.data / "test.parquet")
    pq.write_table(change(pq.read_table(path), column), path)
    parts = job.refused()
    assert parts["what"] == what.format(column)
    assert parts["where"] == path


@pytest.fixture
def canary() -> Iterator[list[bytes]]:
    pa.register_extension_type(Canary())
    Canary.touched.clear()
    yield Canary.touched
    pa.unregister_extension_type("tests.canary")


@pytest.mark.parametrize("kind", ["prepared", "in place"])
def test_a_column_that_would_run_code_is_refused_unread(
    job: Job, kind: str, canary: list[bytes]
) -> None:
    if kind == "prepared":
        path = job.prepare().paths[0]
    else:
        job.dataset |= theirs(job.data)
        path = str(job.data / "train.parquet")
    table = pq.read_table(path)
    evil = pa.ExtensionArray.from_storage(Canary(), pa.array([b"x"] * len(table), pa.binary()))
    pq.write_table(table.append_column("more", evil), path)
    canary.clear()
    parts = job.refused()
    assert parts["what"].startswith("a column has an Arrow extension type")
    assert parts["where"] == path
    assert canary == []
    pq.read_table(path)
    assert canary  # what reading it would have done


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("kind", ["prepared", "in place"])
def test_a_label_out_of_range_names_file_row_and_column(job: Job, kind: str, label: int) -> None:
    if kind == "prepared":
        made = job.prepare()
        path = made.paths[1]
    else:
        job.dataset |= theirs(job.data)
        path = str(job.data / "test.parquet")
    labels = pq.read_table(path)["label"].to_pylist()
    labels[7] = label
    rewrite(path, label=labels)
    if kind == "prepared":
        reseal(made)
    parts = job.refused()
    assert re.fullmatch(f"label {label} of .* is outside 0 … 2", parts["what"])
    assert parts["where"] == f"{path}, row 7, column label"


def test_an_id_under_two_splits_is_refused_with_a_count(job: Job) -> None:
    made = job.prepare()
    ids = pq.read_table(made.paths[1])["sample_id"].to_pylist()
    rewrite(made.paths[1], sample_id=["t01", "t00", *ids[2:]])
    reseal(made)
    parts = job.refused()
    assert parts["what"] == (
        "2 sample ids occur more than once: t00 (train and heldout), t01 (train and heldout)"
    )


def test_changed_labels_are_refused_with_the_command_that_makes_them_anew(job: Job) -> None:
    """Every label moved by one within its range: nothing but the content can tell."""
    made = job.prepare()
    labels = pq.read_table(made.paths[0])["label"].to_pylist()
    table = pq.read_table(made.paths[0])
    place = table.schema.get_field_index("label")
    shifted = pa.array([(label + 1) % 3 for label in labels], pa.int64())
    pq.write_table(table.set_column(place, "label", shifted), made.paths[0], compression="none")
    size = Path(made.paths[0]).stat().st_size
    path = job.data / "manifest.json"
    content = json.loads(path.read_text())
    content["shards"][0]["bytes"] = size
    path.write_text(json.dumps(content))
    parts = job.refused()
    assert "changed since it was prepared: ids, labels and digests" in parts["what"]
    assert parts["next"] == f"rm -r {job.data} && lotus-ray prepare toy {job.data}"


def test_counts_of_classes_are_checked(job: Job) -> None:
    job.prepare()
    path = job.data / "manifest.json"
    content = json.loads(path.read_text())
    content["counts"]["train"] = [8, 8, 7]
    path.write_text(json.dumps(content))
    parts = job.refused()
    assert "8 of cow, not 7" in parts["what"]
    assert parts["where"] == str(path)


def test_an_image_under_two_roles_is_said_and_recorded(job: Job) -> None:
    """t05 and t08 are of one class, and all of it is forgotten; h04 shows the same."""
    same = encoded(5)
    job.prepare(samples(t05=same, t08=same, h04=same, h07=encoded(31)))
    job.dataset["forget"] = {"classes": ["cow"]}
    valid = job.command("validate")
    assert valid.exit_code == 0
    shared = re.findall(r"note: D, class_cow, seed 3407: (.* share .*)", valid.stderr)
    assert len(shared) == 1
    assert re.fullmatch(r"forget and (unseen|test) share 1 image: t05 = h04", shared[0])
    result = job.command("grid")
    assert result.exit_code == 0
    assert f"note: D, class_cow, seed 3407: {shared[0]}\n" in result.stderr
    assert "note" not in result.stdout
    rows = job.rows()
    assert len(rows) == 2
    assert all(shared[0] in row.data_notes for row in rows.values())


def test_a_dry_run_says_the_notes_too(job: Job) -> None:
    job.prepare(samples(t05=encoded(24)))
    dataset = json.dumps({"name": "D", "img_size": 8, **job.dataset})
    settings = options({**QUICK, "grid.datasets": f"[{dataset}]"})
    result = run("grid", DIGITS, "--dry-run", "--store", job.store, *settings)
    assert result.exit_code == 0
    assert re.search(r"note: D, instance_25pct, .*share 1 image: t05 = h00", result.stderr)


def test_data_without_oddities_have_no_notes(job: Job) -> None:
    job.prepare()
    result = job.command("validate")
    note = "note: the original is counted too: every method starts from it\n"
    assert (result.exit_code, result.stderr) == (0, note)
    assert job.command("grid").exit_code == 0
    assert [row.data_notes for row in job.rows().values()] == [[], []]


@pytest.mark.parametrize(
    ("ids", "what"),
    [
        (["t00", "x1", "x2"], "2 ids to forget are not in the data set: x1, x2"),
        (["t00", "t01", "t00"], "1 ids to forget are named more than once: t00"),
        (["t00", "h02"], "1 ids to forget are held out: they play the roles unseen, test"),
    ],
)
@pytest.mark.parametrize("form", ["txt", "csv", "parquet"])
def test_wrong_ids_to_forget_are_listed(job: Job, ids: list[str], what: str, form: str) -> None:
    job.prepare()
    path = job.folder / f"ids.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"sample_id": ids}), path)
    else:
        path.write_text("\n".join([*(["sample_id"] if form == "csv" else []), *ids]) + "\n")
    job.dataset["forget"] = {"ids": str(path)}
    assert job.refused()["what"].startswith(what)


def test_ids_of_a_calibration_set_that_are_in_the_data_set_too_are_refused(job: Job) -> None:
    job.prepare()
    other = [replace(sample, split=TRAIN) for sample in samples()[:2]]
    prepare(source([*other, Sample("own", TRAIN, encoded(99), "", 0)], CLASSES), job.folder / "c")
    job.dataset["calibration"] = {"manifest": str(job.folder / "c")}
    parts = job.refused()
    assert parts["what"] == f"2 sample ids are in {job.data} too: t00, t01"
    assert parts["where"] == str(job.folder / "c")


def test_an_image_of_the_calibration_set_that_is_forgotten_too_is_said(job: Job) -> None:
    job.prepare()
    copies = [Sample("copy", TRAIN, encoded(2), "", 2), Sample("own", TRAIN, encoded(99), "", 0)]
    prepare(source(copies, CLASSES), job.folder / "c")
    job.dataset |= {
        "calibration": {"manifest": str(job.folder / "c")},
        "forget": {"classes": ["cow"]},
    }
    assert "forget and calibration share 1 image: t02 = copy" in job.command("validate").stderr


def test_a_damaged_calibration_set_is_refused_by_name(job: Job) -> None:
    job.prepare()
    own = [Sample("own", TRAIN, encoded(99), "", 0), Sample("too", TRAIN, encoded(98), "", 1)]
    made = prepare(source(own, CLASSES), job.folder / "c")
    job.dataset["calibration"] = {"manifest": str(job.folder / "c")}
    Path(made.paths[0]).unlink()
    parts = job.refused()
    assert parts["what"] == "a shard cannot be read: No such file or directory"
    assert parts["where"] == str(job.folder / "c" / "train-00000.parquet")


def test_a_role_without_any_image_is_refused(job: Job) -> None:
    job.prepare(samples()[:25])
    assert job.refused()["what"].startswith("the role test is empty: 1 held-out images are too few")


def test_a_whole_class_is_forgotten(job: Job) -> None:
    """RF-JSD is over the one class that both sets hold. A rate of 1 % takes 100 non-members."""
    job.prepare()
    job.dataset["forget"] = {"classes": ["cow"]}
    result = job.command("grid")
    assert result.exit_code == 0
    assert (
        "retain holds no image of 1 of 3 classes, which metrics by class leave out: cow"
        in result.stderr
    )
    row = job.rows()["Finetuning"]
    assert row.metrics["rf_jsd_classes"] == 1
    undefined = {name for name, value in row.metrics.items() if value is None}
    assert undefined == {name for name in row.metrics if name.startswith("mia_tpr_")}
    assert row.undefined.keys() == undefined


def test_a_metric_of_a_class_that_no_held_out_image_shows_is_null_with_a_reason(job: Job) -> None:
    """The class that is forgotten has no held-out image: RF-JSD has nothing to compare."""
    job.prepare([s for s in samples() if s.split == TRAIN or s.label != 2])
    job.dataset["forget"] = {"classes": ["cow"]}
    valid = job.command("validate")
    assert "unseen holds no image of 1 of 3 classes" in valid.stderr
    result = job.command("grid")
    assert result.exit_code == 0
    row = job.rows()["Finetuning"]
    reason = "no class is in both the forget set and the held-out set"
    for name in ("rf_jsd", "rf_jsd_compat"):
        assert row.metrics[name] is None
        assert row.undefined[name] == reason
    assert row.metrics["mia_accuracy"] is not None
    assert any("test holds no image of 1 of 3 classes" in note for note in row.data_notes)


def test_a_start_reads_the_small_columns_once_and_no_shard_as_a_whole(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid plans twice: before the store is there, and in it. `prepare` again reads all."""
    made = job.prepare()
    columns: list[str] = []
    hashed_files: list[Path] = []

    def small(manifest: Manifest, shard: Shard, file: pq.ParquetFile) -> pa.Table:
        columns.append(shard.file)
        return read_small(manifest, shard, file)

    def hashed(path: Path) -> str:
        hashed_files.append(path)
        return sha256_of(path)

    monkeypatch.setattr("lotus_ray.data.prepared.shard_checks.read_small", small)
    monkeypatch.setattr(check, "sha256_of", hashed)
    assert job.command("grid").exit_code == 0
    assert sorted(columns) == sorted(shard.file for shard in made.shards)
    assert hashed_files == []
    job.prepare()
    assert hashed_files == [Path(uri) for uri in made.paths]


def test_data_of_an_older_layout_are_refused(job: Job) -> None:
    job.prepare()
    path = job.data / "manifest.json"
    path.write_text(path.read_text().replace('"format": 4', '"format": 3'))
    parts = job.refused()
    assert parts["what"] == "the manifest cannot be read: format 3, expected 4"
