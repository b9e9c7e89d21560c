"""What the command line asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lotus_ray.base.timestamps import utc_now


@dataclass(frozen=True)
class Wish:
    """The options of `lotus-ray forget`: a job, or a model, its weights and images."""

    output: Path
    job: Path | None = None
    ids: tuple[Path, ...] = ()  # a file for each request; none: the job's own forget set
    request_ids: tuple[str, ...] = ()  # a name for each file
    received: str = ""  # UTC, ISO 8601; empty: now
    method: str = "lotus"
    model: str | None = None
    weights: Path | None = None
    train: str | None = None
    heldout: str | None = None
    img_size: int | None = None
    mean: str | None = None
    std: str | None = None
    gates: tuple[str, ...] = ()  # NAME={rule: value}
    after: Path | None = None  # the folder of the request before
    retrain_at: float = 0.02  # held-out accuracy that all requests together may cost
    commitment_key: Path | None = None
    allow_missing: bool = False
    store: str | None = None
    overrides: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    begun: str = field(default_factory=utc_now)

    @property
    def work(self) -> Path:
        """The folder beside the output that holds the store, and all that can be removed later."""
        return self.output.parent / f"{self.output.name}.work"

    @property
    def failed(self) -> Path:
        """The folder that takes the place of the output if a gate fails."""
        return self.output.parent / f"{self.output.name}.FAILED"
