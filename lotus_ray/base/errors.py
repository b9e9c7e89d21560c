"""Every error that a user can meet, and the exit code each one ends the command with.

LotusRayError        1   a bug, if nothing more precise is raised
  JobError           2   the job file, an option, or a name in them
  MethodError        2   a method's hyper-parameters
  DataError          3   images, labels, manifests, roles
  StoreError         5   the metric store
  CellError          4   the cell that `unlearn` was asked for
  ClusterError       6   Ray, its resources or its authentication
  TrackerError       6   MLflow: not installed, not reached, or it refuses what is exported
  Diverged           -   a cell's loss became NaN or infinite: a row, not an exit
  UndefinedMetric    -   a metric has no value here: null with a reason
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SOME_CELLS_FAILED = 4
RUN_AGAIN = 75  # a submitted job was stopped, or its machine is taken away


class LotusRayError(Exception):
    """An error in four parts: what happened, where, the nearest valid name, the next command."""

    exit_code = 1

    def __init__(
        self, what: str, *, where: str = "", nearest: str = "", next_command: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.nearest = nearest
        self.next_command = next_command

    def __str__(self) -> str:
        parts = (("where", self.where), ("nearest", self.nearest), ("next", self.next_command))
        return "\n".join([self.what, *(f"  {name}: {text}" for name, text in parts if text)])


class JobError(LotusRayError):
    """The job file or an option is wrong."""

    exit_code = 2


class MethodError(LotusRayError):
    """A method's hyper-parameters are wrong."""

    exit_code = 2


class DataError(LotusRayError):
    """Images, labels, a manifest or the roles are wrong."""

    exit_code = 3


class OriginalAccuracyError(DataError):
    """An original is not as accurate as it is known to be."""


class StoreError(LotusRayError):
    """The metric store cannot be read or written."""

    exit_code = 5


class StoreUnreachable(StoreError):
    """The metric store did not answer, however often it was asked: no fault of any cell."""


class ArtifactDamaged(StoreError):
    """What a committed row names is gone, or is not what was written."""


class ClusterError(LotusRayError):
    """Ray cannot be reached, or could never run what the job asks for."""

    exit_code = 6


class TrackerError(LotusRayError):
    """MLflow is not installed, cannot be reached, or refuses what is exported to it."""

    exit_code = 6


class CellError(LotusRayError):
    """A cell that was asked for failed."""

    exit_code = 4


class Diverged(LotusRayError):
    """The loss of a cell became NaN or infinite."""


class UndefinedMetric(LotusRayError):
    """A metric has no value for this input; the text says why."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the valid name closest to `name`; where none is close, all of a few names."""
    valid = sorted(names)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return close[0]
    return "one of " + ", ".join(valid) if len(valid) <= 20 else ""
