"""Predictions of another tool: a row of logits for each sample id."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lotus_ray.base.errors import JobError
from lotus_ray.base.roles import ROLES
from lotus_ray.data.roles.id_files import COLUMN
from lotus_ray.data.roles.table import Roles

LOGITS = "logits"
_FORMS = (
    f"an .npz with {COLUMN} [N] and {LOGITS} [N, C], a .parquet with the columns {COLUMN} and "
    f"{LOGITS} (lists), or a .csv with {COLUMN}, 0, 1, … C−1"
)


@dataclass(frozen=True)
class Predictions:
    """Logits [N, C] by sample id, in the order of a file."""

    sample_ids: tuple[str, ...]
    logits: np.ndarray  # [N, C], float
    where: str  # the file

    def ordered(self, roles: Roles) -> np.ndarray:
        """Return logits [n, C] in the order of a table of roles; 0 for samples not evaluated.

        Raises:
            JobError: the logits of a sample are missing, or have another number of classes.
        """
        classes = self.logits.shape[1]
        if classes != roles.num_classes:
            raise self._error(f"it has logits of {classes} classes, the data {roles.num_classes}")
        places = {name: place for place, name in enumerate(self.sample_ids)}
        rows = roles.indices(*ROLES).tolist()
        missing = [name for row in rows if (name := roles.sample_ids[row]) not in places]
        if missing:
            raise self._error(
                f"it lacks {len(missing)} of {len(rows)} samples that are evaluated, "
                f"first {missing[0]}; it holds {self.sample_ids[0]}, …"
            )
        ordered = np.zeros((len(roles), classes), dtype=self.logits.dtype)
        ordered[rows] = self.logits[[places[roles.sample_ids[row]] for row in rows]]
        return ordered

    def check(self) -> None:
        """Raise JobError if ids are repeated, or logits are not finite or are probabilities."""
        if self.logits.ndim != 2 or len(self.logits) != len(self.sample_ids):
            raise self._error(f"logits have shape {list(self.logits.shape)}, not [N, C]")
        if not len(self.logits):
            raise self._error("it holds no sample")
        if len(set(self.sample_ids)) < len(self.sample_ids):
            twice, _ = Counter(self.sample_ids).most_common(1)[0]
            raise self._error(f"a sample stands in it twice: {twice}")
        wrong = np.flatnonzero(~np.isfinite(self.logits).all(axis=1))
        if len(wrong):
            raise self._error(f"logits of {self.sample_ids[wrong[0]]} are NaN or infinite")
        if (self.logits >= 0).all() and np.allclose(self.logits.sum(axis=1), 1, atol=1e-3):
            raise JobError(
                "the predictions are probabilities, and logits are needed",
                where=self.where,
                next_command="write their logarithms: log(p)",
            )

    def _error(self, what: str) -> JobError:
        return JobError(
            f"the predictions are refused: {what}",
            where=self.where,
            next_command=f"sample ids are those of roles/*.parquet in the store; write {_FORMS}",
        )


def read_predictions(path: Path, content: bytes) -> Predictions:
    """Read logits by sample id.

    Args:
        path: .npz, .parquet or .csv; says how to read.
        content: of the file.

    Raises:
        JobError: the file has another form, or its values are wrong.
    """
    try:
        suffix = path.suffix.lower()
        if suffix == ".npz":
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                ids, logits = arrays[COLUMN].tolist(), arrays[LOGITS]
        elif suffix in (".parquet", ".csv"):
            table = _table(suffix, content)
            ids, logits = table[COLUMN].to_pylist(), _logits_of(table)
        else:
            raise ValueError(f"its name ends in '{path.suffix}'")
        logits = np.asarray(logits)
        if np.iscomplexobj(logits):
            raise ValueError("logits are complex numbers")
        if logits.dtype != np.float64:
            logits = logits.astype(np.float32)
    except (ValueError, KeyError, OSError, BadZipFile, TypeError, pa.ArrowException) as error:
        raise JobError(
            f"the predictions cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            nearest=_FORMS,
        ) from error
    predictions = Predictions(tuple(map(str, ids)), logits, str(path))
    predictions.check()
    return predictions


def _table(suffix: str, content: bytes) -> pa.Table:
    if suffix == ".parquet":
        return pq.read_table(io.BytesIO(content))
    as_text = pyarrow.csv.ConvertOptions(column_types={COLUMN: pa.string()})
    return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=as_text)


def _logits_of(table: pa.Table) -> np.ndarray:
    """Return the column of lists, or the columns 0 … C−1, as [N, C]."""
    if LOGITS in table.column_names:
        return np.array(table[LOGITS].to_pylist())
    names = [str(number) for number in range(len(table.column_names) - 1)]
    return np.stack([table[name].to_numpy() for name in names], axis=1)
