"""The backend of Ray Train for a single worker."""

from __future__ import annotations

from ray.train import BackendConfig


class NoProcessGroup(BackendConfig):  # type: ignore[misc]
    """Starts no process group, because a single worker needs none.

    Ray's own TorchConfig imports torch wherever it is read: seconds of every start on two cores,
    and 0.3 GB for each place.
    """
