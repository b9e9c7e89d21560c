from __future__ import annotations

import math
from pathlib import Path

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.report.comparison import Comparisons
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.store.sealed import sealed
from tests.stores import FIRST, LAST, commit


def pair(store: Store) -> tuple[Row, Row]:
    rows = [store.row(commit(store, "lotus", probs=LAST)), store.row(commit(store, "gold"))]
    assert None not in rows
    return rows[0] or Row(), rows[1] or Row()


def kept(store: Store) -> list[str]:
    return store.objects.names("comparisons/")


def test_what_was_compared_is_not_read_again(store: Store) -> None:
    """(0, 1) to (½, ½): ½·ln(4/3) + ¼·ln 2 + ¼·ln(2/3) = ¾·ln(4/3). Then without artifacts."""
    row, gold = pair(store)
    first = Comparisons(store).between(row, gold)
    assert first["jsd"] == pytest.approx(0.75 * math.log(4 / 3))
    for found in (row, gold):
        (Path(store.location) / found.artifacts["tensors.safetensors"].name).unlink()
    assert Comparisons(store).between(row, gold) == first
    with pytest.raises(StoreError, match="cannot be read"):
        Comparisons(store, afresh=True).between(row, gold)


def test_what_is_kept_goes_by_the_content_compared(store: Store) -> None:
    row, gold = pair(store)
    Comparisons(store).between(row, gold)
    Comparisons(store).between(gold, gold)
    assert len(kept(store)) == 2
    other = store.row(commit(store, "finetune", probs=FIRST)) or Row()
    same = store.row(commit(store, "ssd", probs=LAST)) or Row()
    values = [Comparisons(store).between(found, gold) for found in (other, same)]
    assert len(kept(store)) == 3
    assert values[1] == Comparisons(store, afresh=True).between(row, gold)


def test_computing_afresh_does_not_trust_what_is_kept(store: Store) -> None:
    row, gold = pair(store)
    honest = Comparisons(store).between(row, gold)
    (name,) = kept(store)
    store.replace(name, sealed({"jsd": 9.0, "jsd_compat": 9.0}))
    assert Comparisons(store).between(row, gold)["jsd"] == 9.0
    assert Comparisons(store, afresh=True).between(row, gold) == honest
    store.replace(name, sealed(honest).replace(b"e", b"f", 1))
    assert Comparisons(store).between(row, gold) == honest


def test_a_store_that_cannot_be_written_is_reported_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, gold = pair(store)

    def refuse(name: str, content: bytes) -> None:
        raise StoreError("read-only")

    monkeypatch.setattr(store.objects, "replace", refuse)
    comparisons = Comparisons(store)
    assert comparisons.between(gold, gold)["jsd"] == 0
    assert comparisons.between(row, gold)["jsd"] > 0.2
    assert kept(store) == []
