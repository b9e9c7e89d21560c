"""The row: the durable record of one cell. Only this module reads and writes its JSON.

A row holds its format number. Every older format can be read. Unknown fields are kept in `extra`,
and are written again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from lotus_ray.base.errors import StoreError

FORMAT = 2
DISTURBED = 0.01  # of the seconds of unlearning: less is not seen among other noise
OK = "ok"


@dataclass(frozen=True)
class _Record:
    """Fields of a JSON object; a field that is None is not written."""

    extra: Mapping[str, Any] = field(default_factory=dict, kw_only=True)  # unknown fields

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read a JSON object; a missing field gets its default."""
        left = dict(content)
        fields = {name: left.pop(name) for name in cls._names() if name in left}
        return cls(**fields, extra=left)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `from_json` reads."""
        fields = {name: getattr(self, name) for name in self._names()}
        given = {name: value for name, value in fields.items() if value is not None}
        return {**self.extra, **given}

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in cls.__dataclass_fields__ if name != "extra"]


@dataclass(frozen=True)
class Artifact(_Record):
    """A file that a row names."""

    name: str  # relative to the store
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Failure(_Record):
    """The error that ended a cell."""

    type: str = ""  # of the exception
    message: str = ""
    traceback: str = ""  # empty if the message is enough


@dataclass(frozen=True)
class Resources(_Record):
    """Where a cell ran."""

    device: str | None = None  # its name
    device_type: str | None = None  # cpu or cuda
    workers: int | None = None  # when it was committed
    workers_by_attempt: Sequence[int] | None = None  # if the number changed
    threads_per_worker: int | None = None
    gpus_per_worker: float | None = None  # if it was a fraction of one
    peak_device_bytes: int | None = None
    device_bytes: int | None = None
    compiled: bool | None = None
    micro_batch: int | None = None  # most images of the smallest part of a step; None: all whole
    decoding_beside: float | None = None  # part of the ranked seconds; None: no part

    @property
    def is_disturbed(self) -> bool:
        """True if images were decoded on the node while the cell's seconds were counted."""
        return (self.decoding_beside or 0.0) > DISTURBED

    @property
    def shares_gpu(self) -> bool:
        """True if a worker had a fraction of a GPU: other trials may have slowed it."""
        return self.gpus_per_worker is not None and self.gpus_per_worker < 1


@dataclass(frozen=True)
class Row(_Record):
    """The durable record of one cell. Store.commit fills in the first five fields.

    Numbers are stored by name. `metrics` has full precision, and None if a metric is undefined;
    `undefined` gives the reason. `intervals` are [low, high], 95 % over samples. `timing` is in
    seconds. `change` says how far the cell is from its original: `relative_distance`, and the
    shares `weights_moved` and `outputs_changed`; rows of earlier versions have none. `provenance`
    is there for weights or predictions of another tool alone: `file`, `bytes`, `sha256`, `label`.
    `relearn` is there if the job asked for the curve: see `trial/relearn.py`.
    """

    cell_id: str = ""
    attempt_id: str = ""
    row_version: int = 0
    attempts: int = 0  # begun so far
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)  # by file name
    status: str = ""  # OK, failed, diverged or oom
    benchmark: str = ""
    model: str = ""  # as reports call it
    setting: str = ""
    method: str = ""  # as reports call it
    seed: int = 0
    smoke: bool = False  # it used only a part of its samples
    spec: Mapping[str, Any] = field(default_factory=dict)  # the cell id is the hash of it
    data_notes: Sequence[str] = field(default_factory=list)
    committed_at: str | None = None  # ISO 8601
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)
    change: Mapping[str, float] = field(default_factory=dict)  # of weights and outputs
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    phases: Sequence[Mapping[str, Any]] = field(default_factory=list)
    counters: Mapping[str, int] = field(default_factory=dict)
    resumed_at_phase: int | None = None
    resources: Resources = field(default_factory=Resources)
    versions: Mapping[str, str] = field(default_factory=dict)  # of python and torch
    bad_images: Mapping[str, str] = field(default_factory=dict)  # why left out, by sample id
    error: Failure | None = None
    provenance: Mapping[str, Any] | None = None  # of weights or predictions made elsewhere
    relearn: Mapping[str, Any] | None = None  # the curve, or why it is undefined

    @property
    def is_ok(self) -> bool:
        """True if the cell ended well."""
        return self.status == OK

    @property
    def unlearn_seconds(self) -> float:
        """Seconds of unlearning; 0 if the cell failed."""
        return self.timing.get("unlearn_seconds", 0.0)

    @property
    def total_seconds(self) -> float:
        """Seconds from the cell's start to its row; 0 if it failed."""
        return sum(self.timing.values())

    @property
    def first_error_line(self) -> str:
        """First line of the error's message; empty if there is none."""
        lines = self.error.message.splitlines() if self.error else []
        return lines[0] if lines else ""

    @property
    def failure(self) -> str:
        """Status and first line of the error, of a failed cell."""
        return f"{self.status}: {self.first_error_line}"

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str = "") -> Self:
        """Read a row of any format up to this one.

        Args:
            content: the JSON object.
            where: its address, for the error.

        Raises:
            StoreError: a newer version wrote it.
        """
        left = dict(content)
        number = left.pop("format", 1)
        if number not in range(1, FORMAT + 1):
            raise StoreError(
                f"a row has format {number}, and this version reads formats 1 to {FORMAT}",
                where=where,
                next_command="pip install --upgrade lotus-ray",
            )
        for older in range(number, FORMAT):
            left = _UPGRADES[older](left)
        artifacts = left.get("artifacts", {})
        left["artifacts"] = {name: Artifact.from_json(each) for name, each in artifacts.items()}
        left["resources"] = Resources.from_json(left.get("resources", {}))
        if "error" in left:
            left["error"] = Failure.from_json(left["error"])
        return super().from_json(left)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of this row, in the newest format."""
        content = super().to_json()
        content |= {"artifacts": {name: each.to_json() for name, each in self.artifacts.items()}}
        content |= {"resources": self.resources.to_json(), "format": FORMAT}
        return content if self.error is None else {**content, "error": self.error.to_json()}


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had no number, and called the row version a generation."""
    if "generation" in content:
        content["row_version"] = content.pop("generation")
    return content


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
