"""What a record claims, and what it does not: the same for every request of a method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

_EXACT, _CERTIFIED = ("gold",), ("certified_noise",)
RESIDUAL = (
    "the images themselves, wherever they were collected: this command deletes none",
    "copies of the images in prepared shards, and the list of ids that was given",
    "backups and snapshots of the training images",
    "the model before, its checkpoints, and everything that was made from it",
    "the store of this run: ids and outputs for each image, until lotus-ray audit purge",
    "spill and cache folders of the machines that trained, if one of them was killed",
    "logs, thumbnails, embeddings and indexes of other systems",
)
NOT_SHOWN = (
    "That the images are gone: no image was deleted, and a test of a model cannot prove that "
    "nothing is left in it.",
    "How the model behaves against attacks that were not tried. Tried was a guess from one answer "
    "of the model for each image.",
    "Whether a little more training brings the images back: that was not measured.",
)
_LITTLE_TRAINING = (
    "Whether much more training brings the images back: only a little was tried, on images to keep."
)


def not_shown(relearned: bool) -> list[str]:
    """Return what a record does not show.

    Args:
        relearned: it has a relearn curve.
    """
    return [*NOT_SHOWN[:-1], _LITTLE_TRAINING if relearned else NOT_SHOWN[-1]]


def claim(method: str) -> str:
    """Return what a record claims."""
    return f"the method {method} ran on this request, with this evidence"


def guarantee(method: str) -> Literal["approximate", "exact", "certified"]:
    """Return what a method guarantees by itself, whatever was measured."""
    if method in _EXACT:
        return "exact"
    return "certified" if method in _CERTIFIED else "approximate"


def configuration_digest(configuration: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()
