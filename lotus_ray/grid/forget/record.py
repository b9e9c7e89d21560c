"""Rows and outputs of a run -> what the record says."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from lotus_ray.audit import evidence
from lotus_ray.audit.claims import (
    RESIDUAL,
    claim,
    configuration_digest,
    guarantee,
    not_shown,
)
from lotus_ray.audit.commitment import ALGORITHM, CommitmentKey
from lotus_ray.audit.gates import RELEARN, Figures, Gate, apply_gates, outcome
from lotus_ray.audit.predicate import NearDuplicates, Predicate, RelearnCurve, Value
from lotus_ray.audit.relearn import for_gates, relearn_curve
from lotus_ray.audit.verdict import verdict
from lotus_ray.audit.writer import WRITER
from lotus_ray.base.roles import FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.base.timestamps import utc_now
from lotus_ray.data.pixels.near_duplicates import METHOD
from lotus_ray.data.pixels.near_duplicates import NearDuplicates as Pairs
from lotus_ray.grid.forget.chain import Earlier
from lotus_ray.grid.forget.ids import AskedIds
from lotus_ray.job.cells import CellGroup
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.store.row import Row


@dataclass(frozen=True)
class Measured:
    """The rows of a run, and the outputs of its models. Gold is there if the job lists it."""

    rows: Mapping[str, Row]  # original, unlearned, gold
    outputs: Mapping[str, Outputs]
    sample_ids: Sequence[str]  # of the outputs, in their order

    def recognised(self, model: str, sample_ids: Sequence[str]) -> int:
        """Return how many of some images a model recognises."""
        outputs = self.outputs[model]
        chosen = np.isin(np.array(self.sample_ids), list(sample_ids))
        return int((outputs.predicted == outputs.labels)[chosen].sum())

    def curve(self) -> RelearnCurve | None:
        """Return the relearn curve beside that of gold; None if it was not measured."""
        gold = self.rows.get("gold")
        return relearn_curve(self.rows["unlearned"].relearn, gold.relearn if gold else None)

    def figures(self) -> Figures:
        """Return what gates look at."""
        after = self.outputs["unlearned"]
        unseen = {
            "forget_accuracy": evidence.accuracy_of_such(after),
            "retain_accuracy": evidence.accuracy(after, UNSEEN, TEST),
        }
        by_model = {name: row.metrics for name, row in self.rows.items()}
        by_model["unseen"] = {
            **{name: _plain(value) for name, value in unseen.items()},
            "mia_accuracy": evidence.unseen_membership(after),
        }
        row = self.rows["unlearned"]
        fewest = min(int(np.isin(after.roles, roles).sum()) for roles in (FORGET, (UNSEEN, TEST)))
        intervals = {
            name: evidence.widened(middle, low, high, fewest)
            for name, (low, high) in row.intervals.items()
            if (middle := row.metrics.get(name)) is not None
        }
        for role in (FORGET, RETAIN, UNSEEN, TEST):
            value = evidence.accuracy(after, role)
            if value and value.low is not None and value.high is not None:
                intervals[f"{role}_accuracy"] = (value.low, value.high)
        off = {"undefined": "the job turns it off"}
        why = {RELEARN: str((row.relearn or off).get("undefined", "nothing to compare with"))}
        return Figures(by_model, intervals, {**row.undefined, **why}, for_gates(self.curve()))


def make_record(
    measured: Measured,
    group: CellGroup,
    requests: Sequence[AskedIds],
    pairs: Pairs | None,
    key: CommitmentKey,
    earlier: Earlier,
    left_out: int,
    gates: Mapping[str, Gate],
    received: str,
    retrain_at: float,
    input_model: Mapping[str, Any],
) -> Predicate:
    """Return the record of a run, but for its output's file, size and digest.

    Args:
        measured: rows and outputs.
        group: of the cells.
        requests: their ids.
        pairs: near-duplicates, if they were looked for.
        key: of the commitments.
        earlier: the records before.
        left_out: training images that only those name: they take no part.
        gates: of the job.
        received: when the requests came, UTC.
        retrain_at: see `Chain`.
        input_model: SHA-256, source and still_exists.
    """
    row, original = measured.rows["unlearned"], measured.rows["original"]
    shown = evidence.figures(
        measured.outputs["original"], measured.outputs["unlearned"], measured.outputs.get("gold")
    )
    curve = measured.curve()
    results = apply_gates(gates, measured.figures())
    found = list(dict.fromkeys(each for request in requests for each in request.found))
    heldout = next(figure for figure in shown if figure.name == "heldout_accuracy")
    configuration = _configuration(row.spec, key)
    roles = measured.outputs["unlearned"].roles
    name = row.spec["method"]["name"]
    values: dict[str, Any] = {
        "outcome": outcome(results),
        "verdict": verdict(shown, curve),
        "claim": claim(name),
        "guarantee": guarantee(name),
        "completed": utc_now(),
        "requests": [_request(each, measured, key, received) for each in requests],
        "commitments": {
            "algorithm": ALGORITHM,
            "key_check": key.check,
            "set": key.root(found),
            "ids": key.tags(found),
        },
        "near_duplicates": pairs and _near(pairs),
        "data": {
            **{role: int((roles == role).sum()) for role in (FORGET, RETAIN, UNSEEN, TEST)},
            "left_out": left_out,
            "bad_images": len(row.bad_images),
            "manifest_sha256": row.spec["data"],
            "calibration_manifest_sha256": row.spec.get("calibration"),
            "roles_commitment": key.seal(row.spec["roles"]),
        },
        "input_model": {
            "name": group.model.name,
            "classes": group.model.num_classes,
            "options": _options(group.model.options),
            "revision": group.model.pretrained if isinstance(group.model.pretrained, str) else None,
            **input_model,
        },
        "output_model": {
            "file": "-",
            "sha256": "0" * 64,
            "bytes": 0,
            "parameters_moved": row.change.get("weights_moved"),
            "relative_distance": row.change.get("relative_distance"),
        },
        "run": {
            "method": configuration["method"],
            "configuration": configuration,
            "configuration_sha256": configuration_digest(configuration),
            "seed": row.seed,
            "precision": row.spec["precision"],
            "decoder": row.spec["transform"].get("decoder", "exact"),
            "workers": row.resources.workers,
            "threads_per_worker": row.resources.threads_per_worker,
            "device": row.resources.device,
            "attempts": row.attempts,
            "seconds": row.total_seconds,
            "versions": {**row.versions, **_versions()},
            **_git(),
        },
        "figures": shown,
        "metrics_before": original.metrics,
        "metrics_after": row.metrics,
        "attacks": evidence.attacks(measured.outputs["original"], measured.outputs["unlearned"]),
        "relearn_curve": curve,
        "gates": results,
        "chain": earlier.chain(
            len(requests), _plain(heldout.before), _plain(heldout.after), retrain_at
        ),
        "residual_copies": list(RESIDUAL),
        "not_shown": not_shown(curve is not None),
    }
    return Predicate.model_validate(values)


def _plain(value: Value | None) -> float | None:
    return None if value is None else value.value


def _request(
    asked: AskedIds, measured: Measured, key: CommitmentKey, received: str
) -> dict[str, Any]:
    return {
        "request_id": asked.request_id,
        "received": received,
        "asked": len(asked.asked),
        "found": len(asked.found),
        "missing": len(asked.missing),
        "held_out": len(asked.held_out),
        "repeated": asked.repeated,
        "in_other_requests": len(asked.shared),
        "forgotten_before": len(asked.before),
        "commitment": key.root(asked.asked),
        "recognised_before": measured.recognised("original", asked.found),
        "recognised_after": measured.recognised("unlearned", asked.found),
    }


def _near(pairs: Pairs) -> NearDuplicates:
    return NearDuplicates(
        method=METHOD,
        pairs_inside=len(pairs.inside),
        kept_in_training=len({other for _, other in pairs.kept}),
        held_out=len({other for _, other in pairs.held_out}),
    )


def _configuration(spec: Mapping[str, Any], key: CommitmentKey) -> dict[str, Any]:
    """Return a cell's spec without plain digests that depend on which ids are to be forgotten."""
    kept = {name: value for name, value in spec.items() if name not in ("roles", "weights")}
    model = {**spec["model"], "options": _options(spec["model"]["options"])}
    return {**kept, "model": model, "roles": key.seal(spec["roles"])}


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a network without those that may name a path."""
    return {
        name: "(a text with a slash)"
        if isinstance(value, str) and {"/", "\\"} & set(value)
        else value
        for name, value in options.items()
    }


def _versions() -> dict[str, str]:
    result = dict(WRITER)
    for name in ("torchvision", "timm", "numpy", "pillow"):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def _git() -> dict[str, Any]:
    """Return commit and dirty flag of the checkout that runs; None if it is no checkout."""
    package = Path(__file__).parents[2]
    command = ["git", "-C", str(package)]
    if not (package.parent / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    try:
        commit, changes = (
            subprocess.run(
                [*command, *arguments], capture_output=True, text=True, check=True, timeout=20
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": bool(changes)}
