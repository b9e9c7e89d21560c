"""A record as a file: an in-toto Statement in a DSSE envelope, each with one valid form."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from securesystemslib.dsse import Envelope

from lotus_ray.audit.predicate import PREDICATE_TYPE, Predicate
from lotus_ray.base.errors import RecordError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_KEYID = re.compile(r"[0-9a-f]{1,128}")  # it is printed, and no signature holds it
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def new_envelope(predicate: Predicate, files: Mapping[str, bytes]) -> Envelope:
    """Return an unsigned record.

    Args:
        predicate: what it says.
        files: contents by name; the record vouches for them by their SHA-256.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
            for name, content in files.items()
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate.model_dump(mode="json"),
    }
    return Envelope(_canonical(statement), PAYLOAD_TYPE, {})


def to_bytes(envelope: Envelope) -> bytes:
    """Return the one valid file of an envelope."""
    return _canonical(envelope.to_dict())


def read_envelope(content: bytes, name: str) -> Envelope:
    """Read the content of a record's file.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        RecordError: it is no envelope with a record, or written in another form than ours: then
            some byte was changed, even if its meaning was not.
    """
    try:
        keys = [set(each) for each in json.loads(content)["signatures"]]
        envelope = Envelope.from_dict(json.loads(content))
        same = to_bytes(envelope) == content and envelope.payload_type == PAYLOAD_TYPE
        same &= all(map(_KEYID.fullmatch, envelope.signatures))
        same &= all(each == {"keyid", "sig"} for each in keys)
    except Exception as error:  # foreign bytes can make a parser raise anything
        raise RecordError(f"{name} is damaged: it is no DSSE envelope") from error
    if not same:
        raise RecordError(f"{name} is damaged: its bytes are not those that lotus-ray writes")
    return envelope


def read_statement(envelope: Envelope, name: str) -> tuple[dict[str, str], Predicate]:
    """Return the SHA-256 of each file that a record vouches for, by name, and what it says.

    Raises:
        RecordError: the payload is no Statement with a record that this version knows.
    """
    try:
        statement: dict[str, Any] = json.loads(envelope.payload)
        if (statement["_type"], statement["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError("it is of another type")
        if _canonical(statement) != envelope.payload:
            raise ValueError("its bytes are not those that lotus-ray writes")
        subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
        if len(subjects) != len(statement["subject"]):
            raise ValueError("it names a file twice")
        if wrong := [each for each in subjects if not _PLAIN.fullmatch(each)]:
            raise ValueError(f"{wrong[0]!r} is no name of a file")
        if not all(text.isprintable() for text in _texts(statement)):
            raise ValueError("a text in it holds control characters")
        return subjects, Predicate.model_validate(statement["predicate"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{name} does not fit its schema: {place}: {first['msg']}") from error
    except Exception as error:  # as above
        raise RecordError(f"{name} holds no record of a deletion request: {error}") from error


def _texts(content: Any) -> Iterator[str]:
    """Yield every text in a JSON value. A terminal obeys control characters that it is shown."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        yield from _texts([*content, *content.values()])
    elif isinstance(content, list):
        for each in content:
            yield from _texts(each)


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
