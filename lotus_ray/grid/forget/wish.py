"""What the command line asks for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from lotus_ray.audit.gates import Gated
from lotus_ray.base.errors import JobError
from lotus_ray.base.timestamps import to_utc, utc_now
from lotus_ray.job.explain import explain
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import parse

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a request, and of a file in the store


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
    classes: str | None = None
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

    @property
    def key(self) -> Path:
        """The file beside the output that holds a new commitment key."""
        return self.output.parent / f"{self.output.name}.key"

    def names(self) -> tuple[str, ...]:
        """Return a name for each file of ids, as given or numbered. A job's own set needs none.

        Raises:
            JobError: too few or equal names, or one that cannot name a file.
        """
        given = self.request_ids or tuple(f"request-{n}" for n in range(1, len(self.ids) + 1))
        for name in given:
            if not _NAME.fullmatch(name):
                raise JobError(
                    f"'{ascii(name)[1:-1]}' is no name of a request: letters, digits, . _ and -",
                    where="--request",
                    nearest=re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "request-1",
                )
        lists = len(self.ids) or min(1, len(given))  # a job's own forget set may have a name too
        if len(given) != lists or len(set(given)) != len(given):
            raise JobError(
                f"{len(given)} names for {lists} files of ids, each needs its own",
                where="--request",
            )
        return given if self.ids else ()

    def check(self) -> None:
        """Raise JobError if a number or a gate is wrong, or a job says itself what is given."""
        if not math.isfinite(self.retrain_at):
            raise JobError(
                f"{self.retrain_at} is no loss of accuracy", where="--retrain-at", nearest="0.02"
            )
        names = ("model", "weights", "train", "heldout", "classes", "img_size", "mean", "std")
        given = [name.replace("_", "-") for name in names if getattr(self, name) is not None]
        if self.job and given:
            raise JobError(
                f"with a job file, the job says what --{given[0]} would",
                where=f"lotus-ray forget {self.job}",
                next_command="leave the option out, or change the job with --set A.B=C",
            )
        self.gate_overrides()

    def received_utc(self) -> str:
        """Return when the requests came, UTC. Raise JobError if what was given is no time."""
        if not self.received:
            return self.begun
        try:
            received = to_utc(self.received)
        except ValueError as error:
            raise JobError(
                f"'{ascii(self.received)[1:-1]}' is no time",
                where="--received",
                nearest=self.begun,
            ) from error
        if received > self.begun:  # both are UTC, of one form
            raise JobError(
                f"the request cannot have come at {received}, which is in the future",
                where="--received",
                nearest=f"{self.begun}; a time without a zone is UTC",
            )
        return received

    def gate_overrides(self) -> list[str]:
        """Return gates of the command line as settings of the job.

        Raises:
            JobError: one is not NAME={RULE}, or given twice, or there is no such gate or rule.
        """
        parts = [gate.partition("=") for gate in self.gates]
        names = [name for name, _, _ in parts]
        for gate, (name, sign, _) in zip(self.gates, parts, strict=True):
            if not sign or names.count(name) > 1:
                raise JobError(
                    f"gate {name} is given twice" if sign else f"'{gate}' is no gate",
                    where="--gate",
                    nearest="'retain_accuracy={drop_at_most: .01}'",
                )
        for name, _, rule in parts:
            _check_gate(name, rule)
        rules = ", ".join(f"{name}: {rule}" for name, _, rule in parts)
        return [f"gates={{{rules}}}"] if parts else []


def _check_gate(name: str, rule: str) -> None:
    """Raise JobError, which names the option, if a job would refuse a gate of the command line."""
    option = f"--gate '{name}={rule}'"
    gates = {"gates": {name: parse(rule, option)[0]}}
    try:
        Gated.model_validate(gates)
    except ValidationError as error:
        found = explain(error, Document.of(gates))
        raise JobError(found.what, where=option, nearest=found.nearest) from None
