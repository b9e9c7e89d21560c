"""Every error that a user can meet, with the exit code of the command.

LotusRayError             1   an error without a class of its own
  JobError                2   the job file or an option is wrong
  MethodError             2   hyper-parameters of a method are wrong
  DataError               3   images, labels, manifests or roles are wrong
    OriginalAccuracyError 3   the original is less or more accurate than the job expects
    ImagesDoNotFit        3   a node has no room for the decoded images of a group
  CellError               4   the cell that a command needs failed
  StoreError              5   the store cannot be read or written
    StoreUnreachable      5   the store does not answer
    ArtifactDamaged       5   a file of the store is missing or changed
  ClusterError            6   Ray, its resources or its authentication
  TrackerError            6   MLflow is missing, unreachable, or refuses an export
  GateError               7   a gate of a deletion request failed
  RecordError             8   the record of a deletion request does not verify
  Diverged                -   a loss or a weight is NaN or infinite; the row says so
  UndefinedMetric         -   a metric has no value; the row says why
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SOME_CELLS_FAILED = 4
RUN_AGAIN = 75  # the command was stopped, or its machine is taken away: run it again


class LotusRayError(Exception):
    """An error that says what happened, where, the nearest valid name and the next command."""

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
    """Hyper-parameters of a method are wrong."""

    exit_code = 2


class DataError(LotusRayError):
    """Images, labels, manifests or roles are wrong."""

    exit_code = 3


class OriginalAccuracyError(DataError):
    """The accuracy of an original is outside the range that the job expects."""


class ImagesDoNotFit(DataError):
    """A node has no room for the decoded images of a group."""


class StoreError(LotusRayError):
    """The store cannot be read or written."""

    exit_code = 5


class StoreUnreachable(StoreError):
    """The store did not answer after all retries. No cell is at fault."""


class ArtifactDamaged(StoreError):
    """A file that a committed row names is missing or changed."""


class ClusterError(LotusRayError):
    """Ray cannot be reached, or is too small for the job."""

    exit_code = 6


class TrackerError(LotusRayError):
    """MLflow is not installed, cannot be reached, or refuses an export."""

    exit_code = 6


class GateError(LotusRayError):
    """A gate of a deletion request failed: its weights are kept apart."""

    exit_code = 7


class RecordError(LotusRayError):
    """The record of a deletion request, or a file that it vouches for, is damaged or not signed."""

    exit_code = 8


class CellError(LotusRayError):
    """A cell that a command needs failed."""

    exit_code = 4


class Diverged(LotusRayError):
    """A loss or a weight of a cell became NaN or infinite."""


class UndefinedMetric(LotusRayError):
    """A metric has no value for this input. The text says why."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the valid name closest to `name`.

    The same number with other zeros before it is closest: 007 to 7, not 017. If no name is close,
    list all names, or nothing if there are more than 20.
    """
    valid = sorted(names)
    if name.isdecimal():
        number = name.lstrip("0")
        valid_numbers = (each for each in valid if each.isdecimal())
        if same := next((each for each in valid_numbers if each.lstrip("0") == number), None):
            return same
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return close[0]
    return "one of " + ", ".join(valid) if len(valid) <= 20 else ""
