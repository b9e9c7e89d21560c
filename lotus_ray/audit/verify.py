"""Check a folder offline: every byte of its record, of the files and of the chain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key

from lotus_ray.audit.commitment import CommitmentKey
from lotus_ray.audit.consistency import breaks, contradictions
from lotus_ray.audit.envelope import read_envelope, read_statement
from lotus_ray.audit.folder import PAGE, RECORD, Record, chain_name, open_plain, read_record
from lotus_ray.audit.keys import is_one_form
from lotus_ray.audit.predicate import Predicate
from lotus_ray.audit.writer import is_own
from lotus_ray.base.errors import GateError, RecordError

NOT_CHECKED = (
    "that the figures are true: that needs the images, the model before, and another run",
    "that the forgotten images have no trace left: no test of a model can show that",
    "that no later record follows this one: ask for the newest",
    "that copies elsewhere are gone: see the list in the record",
)


@dataclass(frozen=True)
class Finding:
    """One check: what was checked, or why it says no; or what could not be checked."""

    what: str
    error: RecordError | None = None
    is_open: bool = False  # it could not be checked

    def __str__(self) -> str:
        if self.error:
            return f"NO           {self.error.what}"
        return f"{'not checked' if self.is_open else 'checked':12} {self.what}"


@dataclass(frozen=True)
class Verified:
    """All findings on a folder."""

    findings: tuple[Finding, ...]
    record: Record | None

    @property
    def errors(self) -> list[RecordError]:
        """What says no."""
        return [finding.error for finding in self.findings if finding.error]

    @property
    def exit_code(self) -> int:
        """8 if something says no, 7 if a gate failed, else 0."""
        if self.record is None or self.errors:
            return RecordError.exit_code
        return GateError.exit_code if self.record.predicate.outcome == "failed" else 0

    @property
    def last_line(self) -> str:
        """The answer in one line."""
        if self.errors:
            return f"NOT VERIFIED: {self.errors[0].what}"
        assert self.record is not None
        record = self.record.predicate
        names = ", ".join(request.request_id for request in record.requests)
        if record.outcome == "failed":
            return f"VERIFIED, and a GATE FAILED for {names}: do not use these weights"
        return f"VERIFIED for {names}, completed {record.completed[:10]}. {record.verdict.sentence}"


def verify(
    folder: Path,
    keys: Sequence[Key],
    commitment_key: CommitmentKey | None = None,
    sample_ids: Sequence[str] | None = None,
) -> Verified:
    """Check a folder. Nothing is asked of a network.

    Args:
        folder: of the answered request.
        keys: public keys. At least one of them must have signed.
        commitment_key: of the commitments, to check `sample_ids`.
        sample_ids: that the record is said to have forgotten.
    """
    try:
        record = read_record(folder)
    except RecordError as error:
        return Verified((Finding("", error),), None)
    findings = [
        Finding(f"{RECORD}: its form, its type and its schema"),
        *_signatures(record.envelope, RECORD, keys),
        *check_files(record),
        *_chain_signatures(record, keys),
        *_ids(record, commitment_key, sample_ids),
        *(Finding(what, is_open=True) for what in NOT_CHECKED),
    ]
    return Verified(tuple(findings), record)


def _signatures(
    envelope: Envelope, name: str, keys: Sequence[Key], is_needed: bool = True
) -> Iterator[Finding]:
    """Check every signature whose key is given. A wrong one is a no, and none if one is needed."""
    missing = _no if is_needed else _open
    if not envelope.signatures:
        yield missing(f"{name} is not signed")
        return
    by_id = {key.keyid: key for key in keys}
    good = False
    for keyid, signature in envelope.signatures.items():
        key = by_id.get(keyid)
        if key is None:
            yield _open(f"{name}: the signature of key {keyid[:16]}…, which was not given")
            continue
        try:
            key.verify_signature(signature, envelope.pae())
            is_good = is_one_form(signature, key)
        except (UnverifiedSignatureError, ValueError):
            is_good = False
        if not is_good:
            yield _no(f"{name}: the signature of key {keyid[:16]}… is wrong")
            return
        good = True
        yield Finding(f"{name}: signed by key {keyid[:16]}… ({key.scheme})")
    if not good:
        yield missing(f"{name} is not signed by a key that was given")


def check_files(record: Record) -> Iterator[Finding]:
    """Check the files that a record vouches for, its chain, and that there are no others.

    Check too that the record agrees with itself and with its page: somebody may have edited it
    before it was signed.
    """
    for name, digest in record.subjects.items():
        yield _same(record, name, digest, f"{name}: SHA-256 {digest[:16]}…")
    yield from _agreement(record)
    yield from _chain(record)
    listed = {RECORD, *record.subjects, *record.chain_names}
    for path in sorted(record.folder.rglob("*")):
        name = path.relative_to(record.folder).as_posix()
        is_parent = path.is_dir() and any(each.startswith(f"{name}/") for each in listed)
        if name not in listed and not is_parent:
            shown = ascii(name)[1:-1]  # a name may hold a line of its own
            yield _no(f"{shown} is in the folder, and the record does not name it")


def _agreement(record: Record) -> Iterator[Finding]:
    """Check that a record agrees with itself and with its page."""
    found = [_no(f"{RECORD}: {what}") for what in contradictions(record.predicate, record.subjects)]
    yield from found or [Finding(f"{RECORD}: its parts agree with each other")]
    if not is_own(record.predicate):
        yield _open(f"{PAGE}: that it says what the record says: another version wrote it")


def _same(record: Record, name: str, digest: str, what: str) -> Finding:
    try:
        if record.sha256_of(name) != digest:
            return _no(f"{name} changed since the record was made")
    except RecordError as error:
        return Finding("", error)
    return Finding(what)


def _chain(record: Record) -> Iterator[Finding]:
    """Follow the chain from the record to the first one."""
    later: Predicate = record.predicate
    digest = later.chain.previous_sha256
    if (digest is None) != (later.chain.position == 1):
        yield _no(f"{RECORD}: its place in the chain is contradictory")
        return
    for number in range(later.chain.position - 1, 0, -1):
        name = chain_name(number)
        try:
            with open_plain(record.folder, name) as file:
                content = file.read()
            if hashlib.sha256(content).hexdigest() != digest:
                raise RecordError(f"{name} is not the record that the next one names")
            _, predicate = read_statement(read_envelope(content, name), name)
            if predicate.chain.position != number:
                raise RecordError(f"{name} says that it is record {predicate.chain.position}")
            for what in breaks(later, predicate):
                raise RecordError(f"the record after {name} does not follow it: {what}")
        except RecordError as error:
            yield Finding("", error)
            return
        later, digest = predicate, predicate.chain.previous_sha256
        yield Finding(f"{name}: the record before, whole")
        if (digest is None) != (number == 1):
            yield _no(f"{name}: the chain is cut short")
            return


def _chain_signatures(record: Record, keys: Sequence[Key]) -> Iterator[Finding]:
    """Say who signed the earlier records. The newest record's digests hold their bytes."""
    for name in record.chain_names:
        try:
            with open_plain(record.folder, name) as file:
                envelope = read_envelope(file.read(), name)
        except RecordError:
            continue  # already said
        yield from _signatures(envelope, name, keys, is_needed=False)


def _ids(
    record: Record, key: CommitmentKey | None, sample_ids: Sequence[str] | None
) -> Iterator[Finding]:
    """Check that ids are those of a request, or are among the forgotten ones."""
    own = record.predicate.commitments
    if key and key.check != own.key_check:
        yield _no("the commitment key is not the one of this record")
        return
    if key and key.root_of(own.ids) != own.set:
        yield _no("the commitments to single ids are not those of the set")
        return
    if key is None or sample_ids is None:
        yield _open("which ids: that needs --ids and the commitment key")
        return
    root = key.root(sample_ids)
    for request in record.predicate.requests:
        if request.commitment == root:
            yield Finding(
                f"the ids are those of {request.request_id}: {request.asked} asked, "
                f"{request.found} forgotten, {request.forgotten_before} of them not for the first "
                f"time, {request.missing} of no image, {request.held_out} never trained on"
            )
            return
    committed = set(own.ids)
    strange = sum(key.tag(each) not in committed for each in set(sample_ids))
    if strange:
        yield _no(f"{strange} of the ids are not among those that the record forgot")
    else:
        yield Finding(f"{len(set(sample_ids))} ids are among the {len(committed)} forgotten")


def _no(what: str) -> Finding:
    return Finding("", RecordError(what))


def _open(what: str) -> Finding:
    return Finding(what, is_open=True)
