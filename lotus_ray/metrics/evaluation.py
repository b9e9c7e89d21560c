"""One evaluation pass over each split. It computes the inputs of all metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lotus_ray.base.roles import FORGET, ROLES
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.unlearning.contract import SampleSet, Workers
from lotus_ray.unlearning.logits_cache import LogitsCache

_ROWS_AT_A_TIME = 512  # of cached logits


def evaluate(
    model: nn.Module,
    splits: Mapping[str, SampleSet],
    roles: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    device: torch.device,
    workers: Workers,
) -> Outputs:
    """Run a model once over every sample, in eval mode. Its buffers do not change.

    Args:
        model: images [N, 3, H, W] -> logits [N, C].
        splits: by role; each sample belongs to one.
        roles: the role of each row of the table of roles, str [N].
        labels: the label of each row, int64 [N].
        num_classes: C.
        device: of the model.
        workers: the workers that share the samples. All receive the same result.

    Returns:
        Outputs of all samples, computed in float64 from the logits.
    """
    model.eval()
    pass_ = _Pass(roles, list(splits), num_classes, device)
    with torch.inference_mode():
        for role, split in splits.items():
            for batch in split:
                pass_.add(role, batch.rows, batch.labels, model(batch.images))
    return pass_.outputs(roles, labels, workers)


def evaluate_cached(
    logits: LogitsCache,
    roles: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    device: torch.device,
) -> Outputs:
    """Compute the result of `evaluate` from cached logits, without running the model.

    Args:
        logits: of every sample of the roles that are evaluated.
        roles: the role of each row of the table of roles, str [N].
        labels: the label of each row, int64 [N].
        num_classes: C.
        device: of the logits.

    Returns:
        Outputs of all samples, computed in float64 from the logits.
    """
    return _evaluate_known(logits.of, roles, labels, num_classes, device)


def evaluate_logits(
    logits: Tensor, roles: np.ndarray, labels: np.ndarray, num_classes: int
) -> Outputs:
    """Compute the result of `evaluate` from logits [N, C] of all rows of the table of roles.

    Args:
        logits: those of rows that are not evaluated may be anything.
        roles: the role of each row, str [N].
        labels: the label of each row, int64 [N].
        num_classes: C.

    Returns:
        Outputs of all samples, computed in float64.
    """
    return _evaluate_known(lambda rows: logits[rows], roles, labels, num_classes, logits.device)


def _evaluate_known(
    logits_of: Callable[[Tensor], Tensor],
    roles: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    device: torch.device,
) -> Outputs:
    """Return outputs from a function that gives the logits [n, C] of rows, int64 [n]."""
    pass_ = _Pass(roles, list(ROLES), num_classes, device)
    for role in ROLES:
        rows = torch.from_numpy(np.flatnonzero(roles == role))
        for part in torch.split(rows, _ROWS_AT_A_TIME):
            own = torch.from_numpy(labels[part.numpy()]).to(device)
            pass_.add(role, part.to(device), own, logits_of(part.to(device)))
    return pass_.outputs(roles, labels, Workers())


def forget_probs(logits: LogitsCache, roles: np.ndarray, device: torch.device) -> np.ndarray:
    """Return softmax outputs on the forget set from cached logits, float64 [N_f, C].

    Args:
        logits: of every forget sample.
        roles: the role of each row of the table of roles, str [N].
        device: of the logits.
    """
    rows = torch.from_numpy(np.flatnonzero(roles == FORGET)).to(device)
    probs: np.ndarray = logits.of(rows).double().softmax(dim=1).cpu().numpy()
    return probs


class _Pass:
    """Tensors that are zero for samples of other workers, so their sum over workers is complete."""

    def __init__(
        self, roles: np.ndarray, names: list[str], num_classes: int, device: torch.device
    ) -> None:
        forgotten = roles == FORGET
        self.num_classes = num_classes
        self.forget_index = torch.from_numpy(np.cumsum(forgotten) - 1).to(device)  # row -> index
        self.columns = _zeros(5, len(roles), device)  # predicted … confidence, as in `add`
        self.forget_probs = _zeros(int(forgotten.sum()), num_classes, device)
        self.class_sums = {name: _zeros(num_classes, num_classes, device) for name in names}

    def add(self, role: str, rows: Tensor, labels: Tensor, logits: Tensor) -> None:
        log_probs = functional.log_softmax(logits.double(), dim=1)
        probs = log_probs.exp()
        own = labels[:, None]
        log_own = log_probs.gather(1, own)[:, 0]
        log_others = log_probs.scatter(1, own, -torch.inf).logsumexp(dim=1)
        entropy = torch.special.entr(probs).sum(dim=1)
        predicted = logits.argmax(dim=1).double()
        self.columns[:, rows] = torch.stack(
            [predicted, entropy, -log_own, log_own - log_others, probs.amax(dim=1)]
        )
        self.class_sums[role].index_add_(0, labels, probs)
        if role == FORGET:
            self.forget_probs[self.forget_index[rows]] = probs

    def outputs(self, roles: np.ndarray, labels: np.ndarray, workers: Workers) -> Outputs:
        columns = workers.sum(self.columns).cpu().numpy()
        return Outputs(
            roles=roles,
            labels=labels,
            predicted=columns[0].astype(np.int64),
            entropy=columns[1],
            loss=columns[2],
            margin=columns[3],
            confidence=columns[4],
            forget_probs=workers.sum(self.forget_probs).cpu().numpy(),
            class_sums={
                role: workers.sum(sums).cpu().numpy() for role, sums in self.class_sums.items()
            },
        )


def _zeros(rows: int, columns: int, device: torch.device) -> Tensor:
    return torch.zeros(rows, columns, dtype=torch.float64, device=device)
