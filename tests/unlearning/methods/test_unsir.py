"""UNSIR against weights derived by hand."""

from __future__ import annotations

import torch

from lotus_ray.unlearning.methods.unsir import Unsir
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles


def test_unsir_pairs_each_forget_row_and_repeats_no_retain_row_within_a_batch() -> None:
    """100 forget rows and 40 retain rows in batches of 25: 25 distinct partners in each."""
    roles = make_roles("f" * 100 + "r" * 40, [place % 2 for place in range(140)], 2)
    problem = make_problem(Linear(12, 2), make_dataset(blobs(140, 2), roles), batch_size=25)
    partners = [retained for _, retained in next(Unsir(epochs=1).phases(problem)).batches]
    assert [len(set(batch.rows.tolist())) for batch in partners] == [25] * 4
    times = torch.bincount(torch.cat([batch.rows for batch in partners]))[100:]
    assert set(times.tolist()) == {2, 3}
