"""Signing and verifying a folder: what was changed is named."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
from pathlib import Path

import in_toto_attestation.v1.statement as in_toto
import jsonschema
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2

from lotus_ray.audit.folder import CHAIN, FAILED_WEIGHTS, PAGE, RECORD, WEIGHTS
from lotus_ray.audit.keys import PRIVATE, read_public, read_signer
from lotus_ray.audit.predicate import published_schema, schema
from lotus_ray.audit.sign import sign
from lotus_ray.audit.verify import verify
from lotus_ray.audit.words import text
from lotus_ray.cli.main import main
from tests.audit.made_up import IDS, Pair, failed, folder, key_pair, predicate

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def audit(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys: Pair) -> Path:
    """A signed record after two earlier ones, of which the first is signed."""
    path = tmp_path_factory.mktemp("signed")
    earlier: list[bytes] = []
    for number in (1, 2, 3):
        own = folder(path / str(number), earlier)
        if number != 2:
            sign(own, read_signer(keys.private))
        earlier.append((own / RECORD).read_bytes())
    return path / "3"


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed, tmp_path / "copy")
    return tmp_path / "copy"


def errors(path: Path, *pairs: Pair) -> list[str]:
    """Return what says no."""
    return [error.what for error in verify(path, read_public(p.public for p in pairs)).errors]


def test_a_signed_folder_verifies_and_says_what_it_could_not_check(
    signed: Path, keys: Pair
) -> None:
    result = audit("verify", signed, "--key", keys.public)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1].startswith(
        "VERIFIED for r1, completed 2026-11-29. Forgetting was demonstrated: of 37 images"
    )
    assert sum(line.startswith("checked") for line in lines) == 8
    assert any("not checked" in line and "the figures are true" in line for line in lines)
    assert any("chain/0002.json" in line and "is not signed" in line for line in lines)


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_every_flipped_byte_is_found_and_its_file_named(
    signed: Path, tmp_path: Path, kind: str
) -> None:
    """Some dozen flips of bits and bytes. `LOTUS_RAY_FLIPS=1000` tries more."""
    pair = key_pair(tmp_path / "keys", kind)
    path = tmp_path / "folder"
    shutil.copytree(signed, path)
    sign(path, read_signer(pair.private))
    envelope = json.loads((path / RECORD).read_text())
    envelope["signatures"] = [
        each
        for each in envelope["signatures"]
        if each["keyid"] == read_public([pair.public])[0].keyid
    ]
    (path / RECORD).write_text(json.dumps(envelope, sort_keys=True, indent=1) + "\n")
    assert errors(path, pair) == []
    chance = random.Random(7)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    for number in range(int(os.environ.get("LOTUS_RAY_FLIPS", "48"))):
        file = files[number % len(files)]
        content = file.read_bytes()
        place = chance.randrange(len(content))
        flipped = bytearray(content)
        flipped[place] = (flipped[place] + chance.randrange(1, 256)) % 256
        file.write_bytes(flipped)
        found = errors(path, pair)
        file.write_bytes(content)
        name = file.relative_to(path).as_posix()
        assert any(name in each for each in found), f"byte {place} of {name}: {found}"
    assert errors(path, pair) == []


def rewritten(path: Path, change: object) -> None:
    """Write the envelope of a folder anew, after a change."""
    envelope = json.loads((path / RECORD).read_text())
    change(envelope)  # type: ignore[operator]
    (path / RECORD).write_text(json.dumps(envelope, sort_keys=True, indent=1) + "\n")


def test_white_space_and_unused_bits_of_the_file_are_no_free_places(copy: Path, keys: Pair) -> None:
    content = (copy / RECORD).read_bytes()
    value = json.loads(content)["signatures"][0]["sig"]
    assert value.endswith("==")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = value[:-3] + letters[letters.index(value[-3]) ^ 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(value)
    for changed in (
        content + b" ",
        content.replace(b"\n ", b"\n\t", 1),
        json.dumps(json.loads(content), sort_keys=True).encode(),
        content.replace(value.encode(), other.encode()),
        content.replace(b'"payload"', b'"more": 1,\n "payload"'),
    ):
        assert changed != content
        (copy / RECORD).write_bytes(changed)
        assert any(RECORD in each for each in errors(copy, keys))


def test_the_other_valid_form_of_an_ecdsa_signature_is_refused(tmp_path: Path) -> None:
    pair = key_pair(tmp_path / "keys", "p256")
    path = folder(tmp_path / "folder")
    sign(path, read_signer(pair.private))
    assert errors(path, pair) == []

    def mirror(envelope: dict) -> None:
        signature = envelope["signatures"][0]
        r, s = decode_dss_signature(base64.b64decode(signature["sig"]))
        signature["sig"] = base64.b64encode(encode_dss_signature(r, _ORDER - s)).decode()

    rewritten(path, mirror)
    [said] = errors(path, pair)
    assert said.startswith(f"{RECORD}: the signature of key")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: (path / "notes.txt").write_text("?"), "notes.txt is in the folder"),
        (lambda path: (path / CHAIN / "0003.json").write_text("?"), "chain/0003.json is in the"),
        (lambda path: (path / CHAIN / "0001.json").unlink(), "chain/0001.json is missing"),
        (lambda path: shutil.rmtree(path / CHAIN), "chain/0002.json is missing"),
        (lambda path: (path / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (lambda path: (path / RECORD).unlink(), "there is no record here"),
        (
            lambda path: (
                (path / WEIGHTS).rename(path / ".w").exists() and (path / WEIGHTS).symlink_to(".w")
            ),
            f"{WEIGHTS} is no plain file",
        ),
        (
            lambda path: shutil.copy(path / CHAIN / "0001.json", path / CHAIN / "0002.json"),
            "chain/0002.json is not the record that the next one names",
        ),
        (
            lambda path: shutil.copy(path / CHAIN / "0001.json", path / RECORD),
            "chain/0001.json is in the folder",
        ),
    ],
)
def test_what_is_missing_added_or_swapped_is_named(
    copy: Path, keys: Pair, damage: object, named: str
) -> None:
    damage(copy)  # type: ignore[operator]
    result = audit("verify", copy, "--key", keys.public)
    assert result.exit_code == 8
    assert any(line.startswith("NO ") and named in line for line in result.stdout.splitlines())
    assert result.stdout.splitlines()[-1].startswith("NOT VERIFIED: ")


def test_a_signature_of_nobody_or_of_another_key_is_none(
    copy: Path, tmp_path: Path, keys: Pair
) -> None:
    other = key_pair(tmp_path / "other")
    assert errors(copy, other) == [f"{RECORD} is not signed by a key that was given"]
    assert errors(copy) == [f"{RECORD} is not signed by a key that was given"]
    assert errors(copy, other, keys) == []
    rewritten(copy, lambda envelope: envelope.update(signatures=[]))
    assert errors(copy, keys) == [f"{RECORD} is not signed"]


def test_a_damaged_folder_is_not_signed(copy: Path, keys: Pair) -> None:
    (copy / WEIGHTS).write_bytes(b"others")
    result = audit("sign", copy, "--key", keys.private)
    assert result.exit_code == 8
    assert f"{WEIGHTS} changed since the record was made" in result.stderr


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("public", "this is a public key, and signing needs the private one"),
        ("none", "no key is given"),
        ("missing", "the key cannot be read: No such file or directory"),
        ("p384", "this key is of another kind"),
    ],
)
def test_a_wrong_key_is_one_clear_error_and_nothing_is_written(
    copy: Path, keys: Pair, tmp_path: Path, given: str, what: str
) -> None:
    files = {
        "public": ["--key", keys.public],
        "none": [],
        "missing": ["--key", tmp_path / "no.pem"],
        "p384": ["--key", key_pair(tmp_path, "p384").private],
    }
    content = (copy / RECORD).read_bytes()
    result = audit("sign", copy, *files[given])
    assert result.exit_code == 2
    assert what in result.stderr
    assert (copy / RECORD).read_bytes() == content


def test_a_private_key_that_others_can_read_is_said(copy: Path, keys: Pair) -> None:
    for mode, said in ((0o600, False), (0o604, True), (0o640, True)):
        keys.private.chmod(mode)
        result = audit("sign", copy, "--key", keys.private)
        assert result.exit_code == 0
        assert ("others can read the private key" in result.stderr) is said


def test_keys_come_from_the_environment_and_private_ones_are_refused_for_verifying(
    copy: Path, keys: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRIVATE, keys.private.read_text())
    assert audit("sign", copy).exit_code == 0
    result = audit("verify", copy, "--key", keys.private)
    assert result.exit_code == 2
    assert "never hand it out" in result.stderr


def test_ids_are_checked_by_the_key_of_the_commitments(
    copy: Path, keys: Pair, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("a key of more than 16 bytes\n")
    (tmp_path / "other").write_text("another key of more than 16 bytes")
    (tmp_path / "ids").write_text("\n".join(IDS[:5]))
    (tmp_path / "strange").write_text("somebody-else.jpg\n" + IDS[0])
    options = ("--key", keys.public, "--ids")
    good = audit("verify", copy, *options, tmp_path / "ids", "--commitment-key", tmp_path / "key")
    assert (good.exit_code, "5 ids are among the 37 forgotten" in good.stdout) == (0, True)
    bad = audit(
        "verify", copy, *options, tmp_path / "strange", "--commitment-key", tmp_path / "key"
    )
    assert (bad.exit_code, "1 of the ids are not among" in bad.stdout) == (8, True)
    wrong = audit(
        "verify", copy, *options, tmp_path / "ids", "--commitment-key", tmp_path / "other"
    )
    assert (wrong.exit_code, "is not the one of this record" in wrong.stdout) == (8, True)


def test_a_failed_record_is_genuine_and_not_to_be_used(tmp_path: Path, keys: Pair) -> None:
    path = folder(tmp_path / "failed", **failed())
    sign(path, read_signer(keys.private))
    result = audit("verify", path, "--key", keys.public)
    assert result.exit_code == 7
    assert "a GATE FAILED for r1: do not use these weights" in result.stdout.splitlines()[-1]
    assert FAILED_WEIGHTS.startswith("FAILED")
    assert "Do not use the new model." in audit("show", path).stdout


def test_the_record_is_an_in_toto_statement_and_fits_the_published_schema(signed: Path) -> None:
    envelope = json.loads((signed / RECORD).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    parsed = json_format.Parse(payload, statement_pb2.Statement())
    statement = in_toto.Statement.copy_from_pb(parsed)
    statement.validate()
    assert {each.name for each in statement.pb.subject} == {WEIGHTS, PAGE}
    published = json.loads(published_schema())
    jsonschema.Draft202012Validator.check_schema(published)
    record = json.loads(payload)["predicate"]
    jsonschema.Draft202012Validator(published).validate(record)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(published).validate({**record, "raw_ids": ["a"]})
    assert published == schema(), "write it anew"


def test_show_says_it_in_plain_words(signed: Path, tmp_path: Path) -> None:
    result = audit("show", signed, "--html", tmp_path / "page.html")
    assert result.exit_code == 0
    first = result.stdout.split("What this does not show")[0]
    jargon = (
        "epoch",
        "logit",
        "AUC",
        "MIA",
        "unlearn",
        "retain",
        "gradient",
        "JSD",
        "gold",
        "seed",
    )
    assert not [word for word in jargon if word in first]
    assert "Before: 100% (37 of 37)" in first
    assert "After: 62% (23 of 37)" in first  # beside "new images: 60%"
    assert "rightly what is in it" in first
    assert (tmp_path / "page.html").read_text() == (signed / PAGE).read_text()
    assert "erased" not in result.stdout
    nowhere = audit("show", signed, "--html", tmp_path / "no" / "page.html")
    assert (nowhere.exit_code, "the page cannot be written" in nowhere.stderr) == (2, True)


def test_an_image_of_two_requests_is_one_image_on_the_first_screen() -> None:
    [own] = predicate().requests
    other = own.model_copy(update={"request_id": "r2", "in_other_requests": 1, "missing": 1})
    first = text(predicate(requests=[own, other]))
    assert first.startswith("Request to forget 37 images")
    assert "request r2: 1 image was in the request, but not among the images" in first
