"""What somebody who holds only the folder may try, before or after it is signed."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lotus_ray.audit.commitment import CommitmentKey
from lotus_ray.audit.envelope import new_envelope, to_bytes
from lotus_ray.audit.folder import CHAIN, FAILED_WEIGHTS, PAGE, RECORD, WEIGHTS, chain_name
from lotus_ray.audit.keys import read_public, read_signer
from lotus_ray.audit.page import to_page
from lotus_ray.audit.predicate import Predicate
from lotus_ray.audit.sign import sign
from lotus_ray.audit.verify import verify
from lotus_ray.audit.writer import WRITER
from lotus_ray.base.errors import RecordError
from lotus_ray.base.version import VERSION
from lotus_ray.cli.main import main
from tests.audit.made_up import IDS, KEY, Pair, failed, folder, key_pair, predicate


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return key_pair(tmp_path_factory.mktemp("keys"))


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit the Statement of an unsigned folder, and write it in the form of lotus-ray."""
    envelope = json.loads((path / RECORD).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement, sort_keys=True, indent=1) + "\n"
    envelope["payload"] = base64.b64encode(payload.encode()).decode()
    (path / RECORD).write_text(json.dumps(envelope, sort_keys=True, indent=1) + "\n")


def said(path: Path, keys: Pair) -> list[str]:
    return [error.what for error in verify(path, read_public([keys.public])).errors]


def in_record(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda statement: statement["predicate"].update(changes)


def of_output(statement: dict[str, Any], **changes: Any) -> None:
    statement["predicate"]["output_model"].update(changes)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (in_record(outcome="passed"), "its outcome is 'passed', and its gates say 'no gates'"),
        (in_record(completed="2026-12-01T00:00:00.000+00:00"), f"{PAGE} does not say what the"),
        (lambda s: s["predicate"]["figures"].reverse(), "its verdict is"),
        (lambda s: s["subject"].pop(0), "it must vouch for page.html and weights.safetensors"),
        (lambda s: s["subject"].append(
            {"name": "more", "digest": {"sha256": "0" * 64}}
        ), "and for no other file"),
        (lambda s: of_output(s, sha256="1" * 64), f"it names two digests of {WEIGHTS}"),
        (lambda s: of_output(s, file=FAILED_WEIGHTS), f"its weights are not named {WEIGHTS}"),
        (lambda s: s["predicate"]["requests"][0].update(found=38), "do not add up"),
        (lambda s: s["predicate"]["verdict"].update(
            forgetting="not demonstrated"
        ), "its verdict is 'not demonstrated', and its figures say otherwise"),
        (in_record(guarantee="exact"), "its guarantee is not the one of the method lotus"),
        (in_record(not_shown=[]), "its list of what it does not show"),
        (in_record(residual_copies=[]), "or of what is left, was changed"),
        (lambda s: s["predicate"]["run"]["configuration"].update(seed=1), "another digest"),
        (lambda s: s["predicate"]["run"]["method"].update(alpha=3), "its method is not the one"),
        (lambda s: s["predicate"]["chain"].update(retrain_now=True), "whether to retrain"),
        (lambda s: s["predicate"]["chain"].update(drift=-0.5), "its drift does not follow"),
        (lambda s: s["predicate"]["chain"].update(
            first_heldout_accuracy=0.7
        ), "its accuracy of the first model is not that of its figures"),
        (lambda s: s["predicate"]["chain"].update(requests_so_far=4), "its count of requests"),
        (lambda s: s["predicate"]["chain"].update(position=10**9), "chain.position"),
        (lambda s: s["predicate"]["requests"][0].update(recognised_after=38), "counts more"),
        (lambda s: s["predicate"]["commitments"]["ids"].append("0" * 64), "more ids than"),
        (lambda s: s["predicate"]["verdict"].update(sentence="\x1b[2JAll is well"), "control"),
    ],
)  # fmt: skip
def test_an_edited_record_is_not_signed_and_does_not_verify(
    tmp_path: Path, keys: Pair, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    path = folder(tmp_path / "folder")
    edited(path, change)
    with pytest.raises(RecordError):
        sign(path, read_signer(keys.private))
    assert any(named in each for each in said(path, keys)), said(path, keys)


def test_a_failed_record_cannot_be_made_to_pass_before_it_is_signed(
    tmp_path: Path, keys: Pair
) -> None:
    record = predicate(**failed())
    gate = record.gates[0]
    for changes in (
        {"outcome": "passed"},
        {"outcome": "passed", "gates": [gate.model_copy(update={"status": "PASS"})]},
        {
            "outcome": "passed",
            "gates": [gate.model_copy(update={"status": "PASS", "value": 0.4})],
        },
        {
            "outcome": "passed",
            "gates": [gate.model_copy(update={"status": "PASS", "highest": 0.7})],
        },
        {
            "outcome": "passed with warnings",
            "gates": [gate.model_copy(update={"status": "WARN", "value": None})],
            "metrics_after": {"forget_accuracy": None},
        },
    ):
        wrong = record.model_copy(update=changes)
        output = record.output_model.model_copy(update={"file": WEIGHTS})
        found = written(tmp_path / str(len(list(tmp_path.iterdir()))), wrong, output=output)
        assert any("gate" in each for each in said(found, keys)), changes
        with pytest.raises(RecordError):
            sign(found, read_signer(keys.private))


def written(path: Path, record: Predicate, **changes: Any) -> Path:
    """Write a folder whose page and digests fit a record, as a careful forger would."""
    record = record.model_copy(update={"output_model": changes.pop("output", record.output_model)})
    files = {record.output_model.file: b"weights" * 100, PAGE: to_page(record).encode()}
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / RECORD).write_bytes(to_bytes(new_envelope(record, files)))
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"input_model": {"sha256": "1" * 64}}, "its model before is not the model after of"),
        ({"commitments": {"key_check": "1" * 64}}, "its commitments have another key"),
        ({"chain": {"requests_so_far": 9}}, "its count of requests does not follow"),
        ({"chain": {"first_heldout_accuracy": 0.9}}, "its accuracy of the first model"),
    ],
)
def test_a_record_of_another_chain_does_not_follow(
    tmp_path: Path, keys: Pair, change: dict[str, dict[str, Any]], named: str
) -> None:
    first = (folder(tmp_path / "1") / RECORD).read_bytes()
    second = predicate(2)
    changes = {name: getattr(second, name).model_dump() | own for name, own in change.items()}
    if "chain" in changes:
        changes["chain"]["previous_sha256"] = hashlib.sha256(first).hexdigest()
    path = folder(tmp_path / "2", [first], **changes)
    assert any(f"{chain_name(1)} does not follow it: {named}" in each for each in said(path, keys))


def test_a_request_cannot_follow_a_failed_one(tmp_path: Path, keys: Pair) -> None:
    first = (folder(tmp_path / "1", **failed()) / RECORD).read_bytes()
    path = folder(tmp_path / "2", [first])
    assert any("a gate of the record before failed" in each for each in said(path, keys))


def test_a_wrong_signature_of_an_earlier_record_is_a_no_and_a_missing_one_is_not(
    tmp_path: Path, keys: Pair
) -> None:
    own = folder(tmp_path / "1")
    sign(own, read_signer(keys.private))
    envelope = json.loads((own / RECORD).read_text())
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    signature[3] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    forged = (json.dumps(envelope, sort_keys=True, indent=1) + "\n").encode()
    path = folder(tmp_path / "2", [forged])
    sign(path, read_signer(keys.private))
    assert [each.split(" of key")[0] for each in said(path, keys)] == [
        "chain/0001.json: the signature"
    ]


def test_a_folder_of_the_chain_that_is_a_link_is_refused(tmp_path: Path, keys: Pair) -> None:
    first = (folder(tmp_path / "1") / RECORD).read_bytes()
    path = folder(tmp_path / "2", [first])
    sign(path, read_signer(keys.private))
    assert said(path, keys) == []
    shutil.move(path / CHAIN, tmp_path / "elsewhere")
    (path / CHAIN).symlink_to(tmp_path / "elsewhere")
    assert f"{chain_name(1)} is no plain file" in said(path, keys)


def test_a_signing_that_was_killed_is_said_and_the_same_command_mends_it(
    tmp_path: Path, keys: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path / "folder")
    unsigned = (path / RECORD).read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            sign(path, read_signer(keys.private))
    assert (path / RECORD).read_bytes() == unsigned
    assert any(".record.json.partial is in the folder" in each for each in said(path, keys))
    sign(path, read_signer(keys.private))
    assert said(path, keys) == []


@pytest.mark.parametrize(
    "versions",
    [{"lotus-ray": "0.0.1"}, {"lotus-ray": VERSION}, {**WRITER, "lotus-ray records": "0" * 64}],
    ids=["a release", "before the digest", "another commit"],
)
def test_a_page_of_another_version_is_not_checked_and_that_is_said(
    tmp_path: Path, keys: Pair, versions: dict[str, str]
) -> None:
    run = predicate().run.model_copy(update={"versions": versions})
    path = folder(tmp_path / "folder", run=run.model_dump())
    sign(path, read_signer(keys.private))
    verified = verify(path, read_public([keys.public]))
    assert verified.errors == []
    assert "another version wrote it" in str(
        [each for each in verified.findings if PAGE in each.what and each.is_open]
    )


def test_the_very_ids_of_a_request_are_recognised_with_what_became_of_them(
    tmp_path: Path, keys: Pair
) -> None:
    """37 were forgotten, and the file names one more that is held out: it is the same request."""
    asked = (*IDS, "val/new.jpg")
    request = (
        predicate()
        .requests[0]
        .model_copy(update={"asked": 38, "held_out": 1, "commitment": KEY.root(asked)})
    )
    path = folder(tmp_path / "folder", requests=[request.model_dump()])
    sign(path, read_signer(keys.private))
    public = read_public([keys.public])
    whole = verify(path, public, KEY, asked)
    assert whole.errors == []
    assert (
        "the ids are those of r1: 38 asked, 37 forgotten, 0 of them not for the first time, "
        "0 of no image, 1 never trained on"
    ) in str([str(each) for each in whole.findings])
    assert [each.what for each in verify(path, public, KEY, asked[30:]).errors] == [
        "1 of the ids are not among those that the record forgot"
    ]


def test_show_refuses_a_record_that_would_command_the_terminal(tmp_path: Path) -> None:
    path = folder(tmp_path / "folder")
    edited(path, lambda s: s["predicate"].update(claim="\x1b]0;VERIFIED\x07"))
    result = CliRunner().invoke(main, ["audit", "show", str(path)])
    assert result.exit_code == 8
    assert "\x1b" not in result.output


def test_a_name_and_a_key_id_cannot_write_a_line_of_their_own(tmp_path: Path, keys: Pair) -> None:
    path = folder(tmp_path / "folder")
    sign(path, read_signer(keys.private))
    planted = path / "x\nVERIFIED for r1\x1b[2J"
    planted.write_text("")
    result = CliRunner().invoke(main, ["audit", "verify", str(path), "--key", str(keys.public)])
    assert result.exit_code == 8
    assert "VERIFIED for r1" not in result.output.splitlines()
    assert "\x1b" not in result.output
    planted.unlink()
    envelope = json.loads((path / RECORD).read_text())
    envelope["signatures"].append({"keyid": "\nVERIFIED for r1", "sig": "AA=="})
    (path / RECORD).write_text(json.dumps(envelope, sort_keys=True, indent=1) + "\n")
    assert said(path, keys) == [
        f"{RECORD} is damaged: its bytes are not those that lotus-ray writes"
    ]


def test_the_key_of_the_commitments_checks_them_without_ids(tmp_path: Path, keys: Pair) -> None:
    own = predicate().commitments
    swapped = own.model_copy(update={"ids": sorted([*own.ids[1:], "0" * 64])})
    path = folder(tmp_path / "folder", commitments=swapped.model_dump())
    sign(path, read_signer(keys.private))
    public = read_public([keys.public])
    [error] = verify(path, public, KEY).errors
    assert error.what == "the commitments to single ids are not those of the set"
    [error] = verify(path, public, CommitmentKey(b"another key, as long as it must be")).errors
    assert error.what == "the commitment key is not the one of this record"
