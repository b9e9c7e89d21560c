"""Whether a record agrees with itself, with its page, and with the record before it.

A signature shows who vouches for a record. It does not show that nobody edited the record before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from lotus_ray.audit import relearn
from lotus_ray.audit.claims import (
    RESIDUAL,
    claim,
    configuration_digest,
    guarantee,
    not_shown,
)
from lotus_ray.audit.folder import FAILED_WEIGHTS, PAGE, WEIGHTS
from lotus_ray.audit.gates import FAIL, RELEARN, WARN, Figures, Gate, GateResult, outcome
from lotus_ray.audit.page import to_page
from lotus_ray.audit.predicate import Predicate
from lotus_ray.audit.verdict import verdict
from lotus_ray.audit.writer import is_own


def contradictions(record: Predicate, subjects: Mapping[str, str]) -> Iterator[str]:
    """Say what in a record contradicts something else in it.

    Args:
        record: what it says.
        subjects: SHA-256 of each file that it vouches for, by name.
    """
    output = record.output_model
    name = FAILED_WEIGHTS if record.outcome == "failed" else WEIGHTS
    if output.file != name:
        yield f"its outcome is '{record.outcome}', and its weights are not named {name}"
    if set(subjects) != {PAGE, output.file}:
        yield f"it must vouch for {PAGE} and {output.file}, and for no other file"
    elif subjects[output.file] != output.sha256:
        yield f"it names two digests of {output.file}"
    if record.outcome != outcome(record.gates):
        yield f"its outcome is '{record.outcome}', and its gates say '{outcome(record.gates)}'"
    for gate in record.gates:
        if not _follows(gate, record):
            yield f"the figures of gate {gate.gate} do not give {gate.status}"
    expected = verdict(record.figures, record.relearn_curve)
    if record.verdict.forgetting != expected.forgetting:
        yield f"its verdict is '{record.verdict.forgetting}', and its figures say otherwise"
    elif is_own(record) and record.verdict != expected:
        yield "its verdict is not the one of its figures"
    if any(
        r.found + r.missing + r.held_out != r.asked or r.forgotten_before > r.found
        for r in record.requests
    ):
        yield "the counts of a request do not add up"
    if len(record.commitments.ids) != len(set(record.commitments.ids)):
        yield "it commits to an id twice"
    yield from _of_the_run(record)
    yield from _of_the_chain(record)
    yield from relearn.contradictions(record)
    if is_own(record) and _digest_of_page(record) != subjects.get(PAGE):
        yield f"{PAGE} does not say what the record says"


def _of_the_run(record: Predicate) -> Iterator[str]:
    """Say what does not follow from the method, its configuration and the ids."""
    run = record.run
    if run.configuration_sha256 != configuration_digest(run.configuration):
        yield "its configuration has another digest"
    if run.configuration.get("method") != run.method:
        yield "its method is not the one of its configuration"
    name = str(run.method.get("name"))
    if is_own(record):
        if (record.claim, record.guarantee) != (claim(name), guarantee(name)):
            yield f"its claim or its guarantee is not the one of the method {name}"
        expected = not_shown(record.relearn_curve is not None)
        if record.not_shown != expected or record.residual_copies != list(RESIDUAL):
            yield "its list of what it does not show, or of what is left, was changed"
    if len(record.commitments.ids) > sum(request.found for request in record.requests):
        yield "it commits to more ids than its requests found"
    if any(
        max(request.recognised_before, request.recognised_after) > request.found
        for request in record.requests
    ):
        yield "a request counts more recognised images than it found"


def _of_the_chain(record: Predicate) -> Iterator[str]:
    """Say what does not follow from the figures in what a record says of the whole chain."""
    chain = record.chain
    heldout = next((f for f in record.figures if f.name == "heldout_accuracy"), None)
    before, after = (heldout.before, heldout.after) if heldout else (None, None)
    first = chain.first_heldout_accuracy
    if chain.position == 1:
        if chain.requests_so_far != len(record.requests):
            yield "its count of requests is not that of its requests"
        if first != (before and before.value):
            yield "its accuracy of the first model is not that of its figures"
    drift = None if first is None or after is None else first - after.value
    if chain.drift != drift:
        yield "its drift does not follow from its figures"
    if chain.retrain_now != (drift is not None and drift > chain.retrain_at):
        yield "whether to retrain does not follow from its drift"


def breaks(record: Predicate, earlier: Predicate) -> Iterator[str]:
    """Say why a record cannot follow an earlier one, whose model it went on from."""
    if earlier.outcome == "failed":
        yield "a gate of the record before failed"
    if record.input_model.sha256 != earlier.output_model.sha256:
        yield "its model before is not the model after of the record before"
    if record.commitments.key_check != earlier.commitments.key_check:
        yield "its commitments have another key than the record before"
    own, before = record.chain, earlier.chain
    if own.requests_so_far != before.requests_so_far + len(record.requests):
        yield "its count of requests does not follow from the record before"
    if own.first_heldout_accuracy != before.first_heldout_accuracy:
        yield "its accuracy of the first model is not the one of the record before"


def _follows(gate: GateResult, record: Predicate) -> bool:
    """Return True if a gate ends as its condition and the record's figures say."""
    if gate.gate == RELEARN:
        return relearn.follows(gate, record.relearn_curve)
    if gate.value != record.metrics_after.get(gate.gate):
        return False
    low = float("-inf") if gate.lowest is None else gate.lowest
    high = float("inf") if gate.highest is None else gate.highest
    has_limits = (gate.lowest, gate.highest) != (None, None)
    if gate.value is None or not has_limits:
        return gate.status == WARN and not has_limits
    known = Figures({"original": record.metrics_before})
    try:
        limits = Gate.read(gate.condition).limits(known, gate.gate)
    except LookupError:
        limits = low, high  # of a model that the record does not have
    except ValueError:
        return False
    return limits == (low, high) and (gate.status != FAIL) == (low <= gate.value <= high)


def _digest_of_page(record: Predicate) -> str:
    return hashlib.sha256(to_page(record).encode()).hexdigest()
