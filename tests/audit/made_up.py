"""A made-up record, and a folder with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lotus_ray.audit.claims import RESIDUAL, claim, configuration_digest, not_shown
from lotus_ray.audit.commitment import CommitmentKey
from lotus_ray.audit.envelope import new_envelope, to_bytes
from lotus_ray.audit.evidence import attacks, figures
from lotus_ray.audit.folder import CHAIN, FAILED_WEIGHTS, PAGE, RECORD, WEIGHTS, chain_name
from lotus_ray.audit.page import to_page
from lotus_ray.audit.predicate import Attack, Figure, Predicate
from lotus_ray.audit.relearn import relearn_curve
from lotus_ray.audit.verdict import verdict
from lotus_ray.audit.writer import WRITER
from lotus_ray.base.roles import ROLES
from lotus_ray.metrics.outputs import Outputs

KEY = CommitmentKey(b"a key of more than 16 bytes")
IDS = tuple(f"user-17/photo-{number}.jpg" for number in range(37))
_ZERO = "0" * 64
_WEIGHTS = hashlib.sha256(b"weights" * 100).hexdigest()


def outputs(right: dict[str, tuple[int, int]], losses: dict[str, float]) -> Outputs:
    """Make outputs of two classes: by role how many of how many are right, and the mean loss."""
    names = [role for role in ROLES for _ in range(right[role][1])]
    is_right = [i < right[role][0] for role in ROLES for i in range(right[role][1])]
    labels = np.arange(len(names)) % 2
    spread = np.random.default_rng(3).uniform(0.0, 0.2, len(names))
    loss = np.array([losses[role] for role in names]) + spread
    return Outputs(
        roles=np.array(names),
        labels=labels,
        predicted=np.where(is_right, labels, 1 - labels),
        entropy=loss,
        loss=loss,
        margin=-loss,
        confidence=np.exp(-loss),
        forget_probs=np.full((right["forget"][1], 2), 0.5),
        class_sums={role: np.ones((2, 2)) for role in ROLES},
    )


def before() -> Outputs:
    """The model before: it knows all that it was trained on."""
    right = {"forget": (37, 37), "retain": (200, 200), "unseen": (60, 100), "test": (60, 100)}
    return outputs(right, {"forget": 0.1, "retain": 0.1, "unseen": 1.0, "test": 1.0})


def after(right: int = 23, loss: float = 1.0) -> Outputs:
    """The model after: it is right about so many of the images to forget."""
    rights = {"forget": (right, 37), "retain": (198, 200), "unseen": (60, 100), "test": (60, 100)}
    return outputs(rights, {"forget": loss, "retain": 0.1, "unseen": 1.0, "test": 1.0})


@cache
def _measured() -> tuple[list[Figure], list[Attack]]:
    return figures(before(), after(), None), attacks(before(), after())


@cache
def _beside_gold(right: int) -> list[Figure]:
    return figures(before(), after(), after(right))


def predicate(position: int = 1, previous: str | None = None, **changes: Any) -> Predicate:
    """Make a record of 37 forgotten images."""
    shown, attacked = _measured()
    values: dict[str, Any] = {
        "outcome": "no gates",
        "verdict": verdict(shown),
        "claim": claim("lotus"),
        "guarantee": "approximate",
        "completed": "2026-11-29T12:00:00.000+00:00",
        "requests": [
            {
                "request_id": "r1",
                "received": "2026-11-28T12:00:00.000+00:00",
                "asked": 37,
                "found": 37,
                "missing": 0,
                "held_out": 0,
                "repeated": 0,
                "in_other_requests": 0,
                "forgotten_before": 0,
                "commitment": KEY.root(IDS),
                "recognised_before": 37,
                "recognised_after": 23,
            }
        ],
        "commitments": {
            "algorithm": "HMAC-SHA256",
            "key_check": KEY.check,
            "set": KEY.root(IDS),
            "ids": KEY.tags(IDS),
        },
        "near_duplicates": None,
        "data": {
            "forget": 37,
            "retain": 200,
            "unseen": 100,
            "test": 100,
            "left_out": 0,
            "bad_images": 0,
            "manifest_sha256": _ZERO,
            "calibration_manifest_sha256": None,
            "roles_commitment": _ZERO,
        },
        "input_model": {
            "name": "resnet18",
            "classes": 2,
            "options": {},
            "revision": None,
            "sha256": _ZERO if position == 1 else _WEIGHTS,
            "source": "a file",
            "still_exists": "the file",
        },
        "output_model": {
            "file": WEIGHTS,
            "sha256": _WEIGHTS,
            "bytes": 700,
            "parameters_moved": 1.0,
            "relative_distance": 0.1,
        },
        "run": {
            "method": {"name": "lotus", "alpha": (1, 2)},
            "configuration": {"method": {"name": "lotus", "alpha": (1, 2)}},
            "configuration_sha256": configuration_digest(
                {"method": {"name": "lotus", "alpha": (1, 2)}}
            ),
            "seed": 0,
            "precision": "fp32",
            "decoder": "exact",
            "workers": 1,
            "threads_per_worker": 1,
            "device": "a processor",
            "attempts": 1,
            "seconds": 1.0,
            "versions": {"python": "3.11", **WRITER},  # the page sorts them
            "git_commit": None,
            "git_dirty": None,
        },
        "figures": shown,
        "metrics_before": {},
        "metrics_after": {},
        "attacks": attacked,
        "relearn_curve": None,
        "gates": [],
        "chain": {
            "position": position,
            "previous_sha256": previous,
            "requests_so_far": position,
            "first_heldout_accuracy": 0.6,
            "drift": 0.0,
            "retrain_at": 0.02,
            "retrain_now": False,
        },
        "residual_copies": list(RESIDUAL),
        "not_shown": not_shown(relearned=False),
    }
    return Predicate.model_validate({**values, **changes})


def row_of_curve(*right: int, unseen: Sequence[float] = (0.6, 0.6, 0.6)) -> dict[str, Any]:
    """Return `Row.relearn` of the 37 images: after 0, 4 and 8 steps so many are right."""
    return {
        "steps": [0, 4, 8],
        "forget": [each / 37 for each in right],
        "unseen": list(unseen),
        "images": 64,
        "forget_images": 37,
        "unseen_images": 200,
        "unseen_effective": 100 / ((19 / 37) ** 2 + (18 / 37) ** 2),  # 100 of each class
        "batch_size": 32,
        "lr": 0.01,
    }


def relearned(*right: int, gold: Sequence[int] = (), **row: Any) -> dict[str, Any]:
    """Return what differs in a record with a relearn curve."""
    curve = relearn_curve(row_of_curve(*right, **row), row_of_curve(*gold) if gold else None)
    run = predicate().run
    settings = {
        "images": 64,
        "batch_size": 32,
        "steps": 8,
        "every": 4,
        "evaluated": 200,
        "lr": 0.01,
        "version": 1,
    }
    configuration = {**run.configuration, "relearn": settings}
    shown = _beside_gold(gold[0]) if gold else _measured()[0]
    return {
        "relearn_curve": curve,
        "figures": shown,
        "verdict": verdict(shown, curve),
        "not_shown": not_shown(relearned=True),
        "run": {
            **run.model_dump(),
            "configuration": configuration,
            "configuration_sha256": configuration_digest(configuration),
        },
    }


def failed() -> dict[str, Any]:
    """Return what differs in a record of which a gate failed."""
    gate = {
        "gate": "forget_accuracy",
        "condition": "{at_most: 0.5}",
        "status": "FAIL",
        "value": 0.6,
        "lowest": None,
        "highest": 0.5,
        "why": "the condition is not met",
    }
    output = {**predicate().output_model.model_dump(), "file": FAILED_WEIGHTS}
    return {
        "outcome": "failed",
        "gates": [gate],
        "metrics_after": {"forget_accuracy": 0.6},
        "output_model": output,
    }


def folder(path: Path, earlier: Sequence[bytes] = (), **changes: Any) -> Path:
    """Write the folder of an unsigned record after some earlier ones, given as their files."""
    previous = hashlib.sha256(earlier[-1]).hexdigest() if earlier else None
    record = predicate(len(earlier) + 1, previous, **changes)
    files = {record.output_model.file: b"weights" * 100, PAGE: to_page(record).encode()}
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    if earlier:
        (path / CHAIN).mkdir()
    for number, content in enumerate(earlier, start=1):
        (path / chain_name(number)).write_bytes(content)
    (path / RECORD).write_bytes(to_bytes(new_envelope(record, files)))
    return path


@dataclass(frozen=True)
class Pair:
    """Files of a private and a public key."""

    private: Path
    public: Path


def key_pair(path: Path, kind: str = "ed25519") -> Pair:
    """Write a pair of keys to a folder."""
    path.mkdir(parents=True, exist_ok=True)
    private: Any
    if kind == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP384R1())
    pair = Pair(path / f"{kind}.pem", path / f"{kind}.pub")
    pair.private.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    pair.public.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return pair
