"""The outputs of a model: enough to compute every metric without the model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load, save

from lotus_ray.base.roles import ROLES

SAMPLES = "samples.parquet"
TENSORS = "tensors.safetensors"


@dataclass(frozen=True)
class Outputs:
    """Outputs of a model on every sample of the table of roles (N rows, C classes).

    Only samples of ROLES are evaluated. The entries of other samples are 0, and not in files.

    Row c of `class_sums[role]` [C, C] is the sum of softmax outputs over the role's samples of
    class c. Sums, not means, because they add up over workers.
    """

    roles: np.ndarray  # [N], str
    labels: np.ndarray  # [N], int64
    predicted: np.ndarray  # [N], int64
    entropy: np.ndarray  # [N], float64, nats
    loss: np.ndarray  # [N], float64: −log p_y
    margin: np.ndarray  # [N], float64: log p_y − log Σ_{j≠y} p_j
    confidence: np.ndarray | None  # [N], float64: max_j p_j; None in files of metrics version 1
    forget_probs: np.ndarray  # [N_f, C], float64, in the order of rows
    class_sums: Mapping[str, np.ndarray]
    random_forget_probs: np.ndarray | None = None  # [N_f, C], of a random network; original only

    def of(self, values: np.ndarray, *roles: str) -> np.ndarray:
        """Return the entries of `values` [N] that belong to any of `roles`."""
        return values[np.isin(self.roles, roles)]

    def to_files(self, sample_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of the two files that hold these outputs, by file name.

        Args:
            sample_ids: of all N rows.
        """
        evaluated = np.flatnonzero(np.isin(self.roles, ROLES))
        columns = {
            "sample_id": np.array(sample_ids)[evaluated],
            "role": self.roles[evaluated],
            "labels": self.labels[evaluated],
            "predicted": self.predicted[evaluated],
            "entropy": self.entropy[evaluated],
            "loss": self.loss[evaluated],
            "margin": self.margin[evaluated],
        }
        if self.confidence is not None:
            columns["confidence"] = self.confidence[evaluated]
        samples = io.BytesIO()
        pq.write_table(pa.table(columns), samples)
        sums = {f"class_sums.{role}": value for role, value in self.class_sums.items()}
        tensors = {"forget_probs": self.forget_probs, **sums}
        if self.random_forget_probs is not None:
            tensors["random_forget_probs"] = self.random_forget_probs
        return {SAMPLES: samples.getvalue(), TENSORS: save(tensors)}

    @classmethod
    def from_files(cls, samples: bytes, tensors: bytes) -> Outputs:
        """Read outputs from the contents of the files that `to_files` wrote."""
        table = pq.read_table(io.BytesIO(samples))
        arrays = load(tensors)
        return cls(
            roles=np.array(table["role"].to_pylist()),
            confidence=table["confidence"].to_numpy()
            if "confidence" in table.schema.names
            else None,
            forget_probs=arrays["forget_probs"],
            class_sums={
                name.removeprefix("class_sums."): value
                for name, value in arrays.items()
                if name.startswith("class_sums.")
            },
            random_forget_probs=arrays.get("random_forget_probs"),
            **{
                name: table[name].to_numpy()
                for name in ("labels", "predicted", "entropy", "loss", "margin")
            },
        )


def forget_probs(tensors: bytes) -> np.ndarray:
    """Return softmax outputs on the forget set [N_f, C] from the content of the tensors file."""
    probs: np.ndarray = load(tensors)["forget_probs"]
    return probs


def random_forget_probs(tensors: bytes) -> np.ndarray:
    """Return softmax outputs of the random network [N_f, C] from an original's tensors file."""
    probs: np.ndarray = load(tensors)["random_forget_probs"]
    return probs
