"""The commitment key of a request; and whether an output that exists answers the same request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml
from pydantic import ValidationError

from lotus_ray.audit.commitment import CommitmentKey, new_key, read_key
from lotus_ray.audit.gates import Gate
from lotus_ray.audit.predicate import Predicate
from lotus_ray.base.errors import JobError
from lotus_ray.grid.forget.wish import Wish
from lotus_ray.models.weights import file_digest
from lotus_ray.unlearning.methods import registered_name


def commitment_key(wish: Wish, say: Callable[[str], None], is_done: bool) -> CommitmentKey:
    """Return the key: as given, that of the request before, or a new one beside the output."""
    if key := read_key(wish.commitment_key):
        return key
    own = wish.output.parent / f"{wish.output.name}.key"
    before = wish.after and wish.after.parent / f"{wish.after.name}.key"
    for path in (own, before):
        if path and path.exists():
            key = read_key(path)
            assert key is not None
            return key
    if is_done or before:
        raise JobError(
            "the commitment key is not here",
            where=str(before or own),
            next_command="give it: --commitment-key FILE",
        )
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        key = new_key(own)
    except OSError as error:
        what = f"the commitment key cannot be written: {error.strerror}"
        raise JobError(what, where=str(own)) from error
    say(f"a new commitment key: {own}. Keep it, and not with the record")
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
        roots = [key.root(ids) for _, ids in asked]
        same &= roots == [request.commitment for request in record.requests]
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
