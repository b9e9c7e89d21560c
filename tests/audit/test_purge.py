"""What a store keeps so that requests can be purged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lotus_ray.audit.purge import note_request, purge, request_file
from lotus_ray.base.errors import StoreError
from lotus_ray.store.results import Store


def test_a_second_request_of_one_name_does_not_hide_the_first(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    for roles in ("a" * 64, "b" * 64, "b" * 64):
        note_request(store, "request-1", roles, None)
        store.replace(f"roles/{roles}.parquet", b"ids")
    note_request(store, "other", "b" * 64, None)
    note_request(store, "other", "c" * 64, None)
    assert any(
        "request-1, other" in line or "other, request-1" in line
        for line in purge(store, "request-1")
    )
    assert not list((tmp_path / "store" / "roles").glob("*.parquet"))
    assert json.loads(store.find(request_file("other")) or b"")["roles"] == ["c" * 64]
    with pytest.raises(StoreError, match="there is no request 'request-1' here"):
        purge(store, "request-1")


def test_a_purge_that_was_stopped_after_the_rows_goes_on(tmp_path: Path) -> None:
    """Its first part wrote the cells to the note, and removed their rows."""
    store = Store.open(str(tmp_path / "store"))
    note = {"roles": ["a" * 64], "images": [], "cells": ["cell-1"], "weights": []}
    store.replace(request_file("request-1"), json.dumps(note).encode())
    store.replace("attempts/cell-1/1/weights.safetensors", b"weights")
    assert purge(store, "request-1")[0].startswith("1 rows")
    assert store.find("attempts/cell-1/1/weights.safetensors") is None
