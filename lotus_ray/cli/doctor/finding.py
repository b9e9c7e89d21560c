"""The result of a check: ok, a warning, or a problem with the next command to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lotus_ray.base.errors import ClusterError, DataError, LotusRayError, StoreError

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_EXIT_CODES: dict[str, type[LotusRayError]] = {
    "store": StoreError,
    "shared memory": DataError,  # no space for decoded images
    "scratch": DataError,
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    status: str
    text: str
    next_command: str = ""
    code: int = 0  # the exit code of a problem; 0: that of its name

    @property
    def exit_code(self) -> int:
        """The exit code of the command if this were the only finding."""
        if self.status != PROBLEM:
            return 0
        return self.code or _EXIT_CODES.get(self.name, ClusterError).exit_code

    def to_plain(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        plain = {"name": self.name, "status": self.status, "text": self.text}
        return plain | ({"next": self.next_command} if self.next_command else {})


Check = Callable[[], Finding]


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0, or the highest code of a problem: 6 Ray or machine, 5 store, 3 data, 2 job."""
    return max((finding.exit_code for finding in findings), default=0)


def to_text(findings: Iterable[Finding]) -> str:
    """Return a line for each finding, and one for its next command."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:8} {finding.name}: {finding.text}")
        lines += [f"         next: {finding.next_command}"] if finding.next_command else []
    return "\n".join(lines)
