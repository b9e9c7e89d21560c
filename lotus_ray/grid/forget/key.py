"""The commitment key of a request; and whether an output that exists answers the same request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml
from pydantic import ValidationError

from lotus_ray.audit.commitment import CommitmentKey, new_key, read_key
from lotus_ray.audit.folder import RECORD, read_record
from lotus_ray.audit.gates import Gate
from lotus_ray.audit.predicate import Predicate
from lotus_ray.base.errors import JobError
from lotus_ray.grid.forget.job_file import transform_options
from lotus_ray.grid.forget.wish import Wish
from lotus_ray.models.weights import file_digest
from lotus_ray.unlearning.methods import registered_name


def known_key(wish: Wish, is_needed: bool) -> CommitmentKey | None:
    """Return the key: as given, that beside the output, or that of the request before.

    Args:
        wish: the options.
        is_needed: the output exists already. After another request, the key is needed too.

    Returns:
        None if there is none yet: a new one is written with the record, not before it is sure
        that there will be one.
    """
    if key := read_key(wish.commitment_key):
        return key
    before = wish.after and wish.after.parent / f"{wish.after.name}.key"
    for path in (wish.key, before):
        if path and path.exists():
            return read_key(path)
    if is_needed or before:
        raise JobError(
            "the commitment key is not here",
            where=str(before or wish.key),
            next_command="give it: --commitment-key FILE",
        )
    return None


def make_key(wish: Wish, say: Callable[[str], None]) -> CommitmentKey:
    """Write a new key beside the output. One that another command wrote meanwhile is taken."""
    try:
        wish.key.parent.mkdir(parents=True, exist_ok=True)
        key = new_key(wish.key)
    except FileExistsError:
        found = read_key(wish.key)
        assert found is not None
        return found
    except OSError as error:
        what = f"the commitment key cannot be written: {error.strerror}"
        raise JobError(what, where=str(wish.key)) from error
    say(f"a new commitment key: {wish.key}. Keep it, and not with the record")
    return key


def _condition(rule: str) -> str:
    """Return the rule of a gate as a record writes it; a rule that is none as it is."""
    try:
        return str(Gate.model_validate(yaml.safe_load(rule)))
    except (ValidationError, yaml.YAMLError):
        return rule


def check_same(
    record: Predicate,
    asked: Sequence[tuple[str, Sequence[str]]],
    key: CommitmentKey,
    wish: Wish,
) -> None:
    """Raise JobError if the output answers another request."""
    same = record.commitments.key_check == key.check
    same &= record.run.method["name"] == registered_name(wish.method)
    if asked:
        given = [(name, key.root(ids)) for name, ids in asked]
        same &= given == [(each.request_id, each.commitment) for each in record.requests]
    same &= (wish.after is None) == (record.chain.position == 1)
    if wish.after and (wish.after / RECORD).exists():
        last = read_record(wish.after).predicate.output_model
        same &= record.input_model.sha256 == last.sha256
    same &= all(
        record.run.configuration.get("transform", {}).get(name) == value
        for name, value in transform_options(wish).items()
    )
    answered = {gate.gate: gate.condition for gate in record.gates}
    asked_gates = [gate.partition("=") for gate in wish.gates]
    same &= all(answered.get(name) == _condition(rule) for name, _, rule in asked_gates)
    if wish.weights and not wish.after:
        same &= record.input_model.sha256 == file_digest(wish.weights)
    if not same:
        raise JobError(
            "the output exists and answers another request",
            where=str(wish.output),
            next_command="choose another --output",
        )
