"""The backend of Ray Train for a single worker."""

from __future__ import annotations

from ray.train import BackendConfig


class NoProcessGroup(BackendConfig):  # type: ignore[misc]
    """Starts no process group, because a single worker needs none.

    Ray's controller reads this, and its TorchConfig imports torch there: seconds of every start on
    two cores, and 0.3 GB for each place.
    """

    backend = "none"  # what TorchTrainer reads
