"""`lotus-ray forget`: ids, near-duplicates, gates, the record and its chain, on scans of digits."""

from __future__ import annotations

import base64
import csv
import getpass
import json
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from lotus_ray.audit.folder import FAILED_WEIGHTS, RECORD, WEIGHTS
from lotus_ray.audit.keys import read_signer
from lotus_ray.audit.sign import sign
from lotus_ray.cli.main import main
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.store.results import Store
from tests.audit.made_up import key_pair

JOB = str(Path(__file__).parents[2] / "jobs" / "digits.yaml")
WIDTH = "grid.models.0.options={width: 2}"
QUICK = ("--set", WIDTH, "--set", "epochs=1", "--set", "resources.cpus_per_worker=1")
HIDDEN, TWIN = "seven-of-user-17", "twin-of-user-17"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of three digits in folders, a copy of one of them, and weights of a short training."""
    path = tmp_path_factory.mktemp("photos-of-users")
    digits = load_digits()
    images, labels = digits.images[digits.target < 3], digits.target[digits.target < 3]
    for number, (image, label) in enumerate(zip(images[:330], labels[:330], strict=True)):
        folder = path / ("train" if number < 230 else "val") / f"digit{label}"
        folder.mkdir(parents=True, exist_ok=True)
        name = HIDDEN if number == 7 else f"{number:04d}"
        scan = Image.fromarray(np.uint8(image * 15)).convert("RGB").resize((16, 16))
        scan.save(folder / f"{name}.png")
        if number == 7:
            scan.save(folder / f"{TWIN}.jpg", quality=90)
    torch.manual_seed(0)
    model = resnet18_cifar(num_classes=3, width=2)
    files = sorted((path / "train").rglob("*.*"))
    pixels = torch.stack(
        [torch.from_numpy(np.array(Image.open(f).convert("RGB"))).permute(2, 0, 1) for f in files]
    )
    inputs = (pixels.float() / 255 - 0.5) / 0.5
    targets = torch.tensor([int(f.parent.name[-1]) for f in files])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    order = torch.cat([torch.randperm(len(inputs)) for _ in range(4)])
    for rows in order.split(24):
        loss = torch.nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    assert (model(inputs).argmax(1) == targets).float().mean() > 0.7
    torch.save(model.state_dict(), path / "model.pth")
    return path


def ids(path: Path, *names: str) -> Path:
    """Write a file of ids."""
    with path.open("w") as file:
        csv.writer(file).writerows([["sample_id"], *[[name] for name in names]])
    return path


def some(photos: Path, start: int, stop: int) -> list[str]:
    """Return ids of training images."""
    files = sorted((photos / "train").rglob("*.png"))[start:stop]
    return [file.relative_to(photos).as_posix() for file in files]


def forget(photos: Path, output: Path, *options: object) -> Result:
    """Answer a request without a job, on the network of the fixture."""
    return run(
        *("forget", "--model", "resnet18_cifar", "--weights", photos / "model.pth"),
        *("--train", photos / "train", "--heldout", photos / "val", "--output", output),
        *("--mean", "0.5", "--std", "0.5", *QUICK),
        *("--method", "finetune", *options),
    )


@pytest.fixture(scope="module")
def asked(photos: Path) -> list[str]:
    [hidden] = (photos / "train").rglob(f"{HIDDEN}.png")
    own = hidden.relative_to(photos).as_posix()
    return [own, *[each for each in some(photos, 0, 12) if each != own]]


@pytest.fixture(scope="module")
def answered(
    photos: Path, asked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """An answered request with ids that are repeated, held out and missing; and what was said."""
    path = tmp_path_factory.mktemp("answered")
    held_out = sorted((photos / "val").rglob("*.png"))[0].relative_to(photos).as_posix()
    file = ids(path / "ids.csv", *asked, asked[0], held_out, "train/nobody.png")
    gates = ("--gate", "retain_accuracy={drop_at_most: 1}", "--gate", "zrf={within: 1, of: gold}")
    result = forget(photos, path / "out", "--ids", file, "--allow-missing", *gates)
    assert result.exit_code == 0, result.stderr
    return path, result


def predicate(folder: Path) -> dict:
    """Return what the record of a folder says."""
    payload = base64.b64decode(json.loads((folder / RECORD).read_text())["payload"])
    return json.loads(payload)["predicate"]


def test_a_request_leaves_weights_a_record_and_a_page(
    answered: tuple[Path, Result], asked: list[str]
) -> None:
    path, result = answered
    out = path / "out"
    assert sorted(each.name for each in out.iterdir()) == ["page.html", RECORD, WEIGHTS]
    said = predicate(out)
    [request] = said["requests"]
    counts = {"asked": len(asked) + 2, "found": len(asked), "missing": 1, "held_out": 1}
    assert {name: request[name] for name in counts} == counts
    assert request["repeated"] == 1
    assert said["near_duplicates"]["kept_in_training"] >= 1
    assert "look like training images that are not to be forgotten" in result.stderr
    assert said["outcome"] == "passed with warnings"
    assert "WARN zrf {within: 1.0, of: gold}: there is no gold in this run" in result.stderr
    assert result.stdout.splitlines()[-1] == said["verdict"]["sentence"]
    assert f"{len(asked)} images to forget, {231 - len(asked)} to keep, 100 never" in result.stderr
    assert said["verdict"]["sentence"] in (out / "page.html").read_text().replace("&#39;", "'")
    curve = said["relearn_curve"]
    assert curve["against"] == "unseen"
    assert curve["unlearned"]["forget"][0] == said["metrics_after"]["forget_accuracy"]
    assert (len(curve["steps"]), curve["forget_images"]) == (7, len(asked))
    network = resnet18_cifar(num_classes=3, width=2).eval()
    network.load_state_dict(load_file(out / WEIGHTS))
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 3)


def test_record_and_page_name_no_image_path_host_user_or_secret(
    answered: tuple[Path, Result], photos: Path
) -> None:
    path, _ = answered
    texts = [json.dumps(predicate(path / "out")), (path / "out" / "page.html").read_text()]
    key = (path / "out.key").read_text().strip()
    secrets = [HIDDEN, "nobody", ".png", str(path), str(photos), photos.name, key]
    secrets += [socket.gethostname(), str(Path.home()), "/tmp"]
    words = [getpass.getuser()] if os.getuid() else []
    for text in texts:
        assert not [each for each in secrets if each in text]
        assert not [each for each in words if re.search(rf"\b{each}\b", text)]
        for file in (photos / "train").rglob("*.*"):
            assert file.stem not in (HIDDEN, TWIN) or file.stem not in text


def test_no_plain_digest_of_ids_is_in_the_record(answered: tuple[Path, Result]) -> None:
    path, _ = answered
    text = (path / "out" / RECORD).read_text() + json.dumps(predicate(path / "out"))
    store = Store.open(str(path / "out.work" / "store"))
    for row in store.rows().values():
        assert row.spec["roles"] not in text
        assert row.cell_id not in text


def test_the_same_command_again_says_so_and_another_request_is_refused(
    answered: tuple[Path, Result], photos: Path, asked: list[str], tmp_path: Path
) -> None:
    path, first = answered
    before = (path / "out" / RECORD).read_bytes()
    again = forget(photos, path / "out", "--ids", path / "ids.csv", "--allow-missing")
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert "answered already" in again.stderr
    other = forget(photos, path / "out", "--ids", ids(tmp_path / "other.csv", asked[1]))
    assert other.exit_code == 2
    assert "answers another request" in other.stderr
    same = ("--ids", path / "ids.csv", "--allow-missing")
    for options in (("--request", "b"), ("--after", path / "out"), ("--std", "0.25")):
        other = forget(photos, path / "out", *same, *options)
        assert (other.exit_code, "answers another request" in other.stderr) == (2, True), options
    assert (path / "out" / RECORD).read_bytes() == before


def test_a_second_request_goes_on_from_the_first_and_knows_what_was_forgotten(
    answered: tuple[Path, Result], photos: Path, asked: list[str], tmp_path: Path
) -> None:
    path, _ = answered
    first, second = tmp_path / "one", tmp_path / "two"
    shutil.copytree(path / "out", first)
    shutil.copy(path / "out.key", tmp_path / "one.key")
    pair = key_pair(tmp_path)
    sign(first, read_signer(pair.private))
    new = [each for each in some(photos, 20, 26) if each not in asked]
    files = [ids(tmp_path / "a.csv", asked[0], *new[:3]), ids(tmp_path / "b.csv", *new[2:])]
    lists = [part for file in files for part in ("--ids", file)]
    options = (*lists, "--after", first, "--request", "a", "--request", "b", "--retrain-at", "-1")
    options = (*options, "--set", "relearn=null", "--gate", "relearn={at_most: 1}")
    result = forget(photos, second, *options)
    assert result.exit_code == 0, result.stderr
    said = predicate(second)
    assert said["relearn_curve"] is None
    assert "the relearn curve is undefined: the job turns it off" in said["gates"][0]["why"]
    assert f"--weights {photos / 'model.pth'} is not used" in result.stderr
    assert "--model" not in result.stderr  # it is that of the request before
    assert [each["forgotten_before"] for each in said["requests"]] == [1, 0]
    assert [each["in_other_requests"] for each in said["requests"]] == [1, 1]
    assert said["chain"]["position"] == 2
    assert said["chain"]["retrain_now"] is True
    assert said["data"]["left_out"] == len(asked) - 1  # the one that is named again is not
    assert said["data"]["forget"] == len(new) + 1
    assert "1 of 4 ids were forgotten by an earlier request, and are again" in result.stderr
    roles = said["data"]
    trained = len(list((photos / "train").rglob("*.*")))
    assert roles["forget"] + roles["retain"] + roles["left_out"] == trained
    sign(second, read_signer(pair.private))
    verified = run("audit", "verify", second, "--key", pair.public)
    assert verified.exit_code == 0, verified.output
    assert "chain/0001.json: the record before, whole" in verified.stdout
    (tmp_path / "other.key").write_text("ab" * 32)
    wrong = ("--commitment-key", tmp_path / "other.key")
    refused = forget(photos, tmp_path / "three", *lists, "--after", first, *wrong)
    assert refused.exit_code == 2
    assert "the commitment key is not the one of the request before" in refused.stderr


def test_a_failed_gate_leaves_nothing_that_could_be_taken_for_passed(
    answered: tuple[Path, Result], photos: Path, tmp_path: Path
) -> None:
    path, _ = answered
    out = tmp_path / "out"
    shutil.copytree(path / "out.work", tmp_path / "out.work")  # a command that was killed goes on
    shutil.copy(path / "out.key", tmp_path / "out.key")
    gate = ("--gate", "retain_accuracy={at_most: 0}")
    options = ("--ids", path / "ids.csv", "--allow-missing")
    options = (*options, "--set", "relearn={lr: 1e+30, steps: 2}")  # diverges
    result = forget(photos, out, *options, *gate)
    assert result.exit_code == 7
    assert not out.exists()
    folder = tmp_path / "out.FAILED"
    assert sorted(each.name for each in folder.iterdir()) == [FAILED_WEIGHTS, "page.html", RECORD]
    with safe_open(folder / FAILED_WEIGHTS, "pt") as file:
        assert "do not use" in file.metadata()["lotus-ray"]
    assert predicate(folder)["outcome"] == "failed"
    assert "must not be used" in result.stderr
    value = predicate(folder)["gates"][0]["value"]
    line = f"FAIL retain_accuracy {{at_most: 0.0}}: {value:.3f}, the condition is not met"
    assert line in result.stderr.splitlines()
    assert "note: there is no relearn curve of the new model: " in result.stderr
    again = forget(photos, out, *options, *gate)
    assert again.exit_code == 7
    key = ("--commitment-key", tmp_path / "out.key")
    refused = forget(photos, tmp_path / "next", *options, "--after", folder, *key)
    assert "a gate of the request before failed" in refused.stderr


def test_purge_removes_the_images_of_a_request_and_leaves_the_record(
    answered: tuple[Path, Result], tmp_path: Path
) -> None:
    path, _ = answered
    work = tmp_path / "moved.work"
    shutil.copytree(path / "out.work", work, symlinks=True)
    missing = run("audit", "purge", work / "store", "--request", "request-9")
    assert (missing.exit_code, "nearest: request-1" in missing.stderr) == (5, True)
    shared = work / "store" / "pixels" / "key"
    shared.mkdir(parents=True)  # as nodes of a cluster leave it
    result = run("audit", "purge", work / "store", "--request", "request-1")
    assert not shared.exists()
    assert result.exit_code == 0, result.output
    assert "removed: 2 rows" in result.stdout
    assert "removed: the copies of all images that the run was given" in result.stdout
    left = {each.relative_to(work).as_posix() for each in work.rglob("*") if not each.is_dir()}
    assert left == {"job.yaml", "store/lotus-ray-store.json"}
    assert HIDDEN not in (work / "job.yaml").read_text()
    assert list((path / "out.work").glob("images-*"))  # those of another folder stay


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (("--gate", "retain_acuracy={at_least: .1}"), 2, "there is no gate 'retain_acuracy'"),
        (("--method", "lotuss"), 2, "unknown method 'lotuss'"),
        (("--request", "a", "--request", "b"), 2, "2 names for 1 files of ids"),
        (("--model", "resnet19"), 2, "unknown model 'resnet19'"),
        (("--weights", "no.pth"), 2, "there is no such weights file"),
        (("--train", "nowhere"), 2, "there are no such images"),
        (("--retrain-at", "nan"), 2, "nan is no loss of accuracy"),
        (
            ("--gate", "retain_accuracy={drop_at_most: 5}"),
            2,
            "Input should be less than or",
        ),
    ],
)
def test_a_wrong_wish_is_one_clear_error_before_the_run(
    photos: Path, asked: list[str], tmp_path: Path, options: tuple[str, ...], code: int, what: str
) -> None:
    result = forget(photos, tmp_path / "out", "--ids", ids(tmp_path / "ids.csv", *asked), *options)
    assert result.exit_code == code
    assert f"error: {what}" in result.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work" / "store" / "rows").exists()
    assert not (tmp_path / "out.key").exists()  # it is made with the record


def test_ids_of_no_image_are_refused_with_the_nearest(photos: Path, tmp_path: Path) -> None:
    file = ids(tmp_path / "ids.csv", f"somewhere/{HIDDEN}.png")
    result = forget(photos, tmp_path / "out", "--ids", file)
    assert result.exit_code == 3
    assert "1 ids to forget are not in the data set" in result.stderr
    assert re.search(rf"nearest: train/digit\d/{HIDDEN}.png", result.stderr)


def test_an_output_that_cannot_be_written_is_refused_before_the_run(
    photos: Path, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    options = ("--ids", ids(tmp_path / "ids.csv", *asked))
    result = forget(photos, tmp_path / "file" / "out", *options)
    assert result.exit_code == 2
    assert "the output cannot be written" in result.stderr
    (tmp_path / "out").mkdir()
    taken = forget(photos, tmp_path / "out", *options)
    assert (taken.exit_code, "holds no record" in taken.stderr) == (2, True)


def test_a_model_that_does_not_recognise_its_own_images_is_refused(
    photos: Path, asked: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    torch.save(resnet18_cifar(num_classes=3, width=2).state_dict(), tmp_path / "new.pth")
    options = ("--ids", ids(tmp_path / "ids.csv", *asked), "--weights", tmp_path / "new.pth")
    result = forget(photos, tmp_path / "out", *options)
    assert result.exit_code == 3
    assert "of its own training images, where chance is 33.3%" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_job_answers_by_its_own_forget_set(tmp_path: Path) -> None:
    quick = (
        "grid.models.0.train={epochs: 4, batch_size: 16}",
        "dataset.subset={train_per_class: 30, heldout_per_class: 10}",
    )
    options = [*QUICK, *(part for each in quick for part in ("--set", each))]
    store = tmp_path / "store"
    methods = ("--set", "grid.methods=[gold,lotus]", "--gate", "relearn={within: 1, of: gold}")
    result = run("forget", JOB, "--output", tmp_path / "out", "--store", store, *options, *methods)
    assert result.exit_code == 0, result.stderr
    said = predicate(tmp_path / "out")
    assert said["run"]["method"]["name"] == "lotus"
    assert said["input_model"]["source"] == "trained by the job"
    rows = {row.method: row for row in Store.open(str(store)).rows().values()}
    assert set(rows) == {"Original", "Gold Std", "LoTUS"}
    assert said["figures"][0]["reference_is"] == "a model trained again without these images"
    correct = rows["Gold Std"].metrics["forget_accuracy"]
    assert said["figures"][0]["reference"]["value"] == pytest.approx(correct)
    assert said["metrics_after"] == rows["LoTUS"].metrics
    assert said["outcome"] == "passed"
    assert said["relearn_curve"]["against"] == "gold"
    for name, row in (("unlearned", rows["LoTUS"]), ("gold", rows["Gold Std"])):
        assert row.relearn is not None
        assert said["relearn_curve"][name]["forget"] == row.relearn["forget"]


def test_prepared_images_and_parquet_answer_as_folders_do(
    answered: tuple[Path, Result], photos: Path, asked: list[str], tmp_path: Path
) -> None:
    """The shards that the request of the fixture was answered from, as data and as plain Parquet.

    In Parquet an id is the file and the row.
    """
    path, _ = answered
    [prepared] = (path / "out.work").glob("images-*")
    model = ("--model", "resnet18_cifar", "--weights", photos / "model.pth")
    rest = ("--img-size", 16, "--mean", "0.5", "--std", "0.5", *QUICK, "--method", "finetune")
    own = ("--ids", ids(tmp_path / "ids.csv", *asked), "--output", tmp_path / "own")
    result = run("forget", *model, "--train", prepared, *own, *rest)
    assert result.exit_code == 0, result.stderr
    folders, again = predicate(path / "out"), predicate(tmp_path / "own")
    assert again["data"]["forget"] == folders["data"]["forget"] == len(asked)
    assert (
        again["metrics_before"]["forget_accuracy"] == folders["metrics_before"]["forget_accuracy"]
    )
    for name in ("train", "heldout"):
        [shard] = prepared.glob(f"{name}-*.parquet")
        pq.write_table(
            pq.read_table(shard, columns=["image", "label"]), tmp_path / f"{name}.parquet"
        )
    files = [part for n in ("train", "heldout") for part in (f"--{n}", tmp_path / f"{n}.parquet")]
    two = ids(tmp_path / "two.csv", *[f"train/train.parquet:{row}" for row in (7, 8)])
    named = ("--classes", "digit0,digit1,digit2", "--output", tmp_path / "parquet")
    result = run("forget", *model, *files, "--ids", two, *named, *rest)
    assert result.exit_code == 0, result.stderr
    assert predicate(tmp_path / "parquet")["data"]["forget"] == 2
    store = tmp_path / "parquet.work" / "store"
    assert run("audit", "purge", store, "--request", "request-1").exit_code == 0
    assert [each.name for each in store.rglob("*") if each.is_file()] == ["lotus-ray-store.json"]
