"""Forget sets of one name: two lists are two experiments, draws of seeds are one."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.report.collect import collect
from lotus_ray.store.results import Store
from tests.report.made_up import commit

A, B = ["train/1", "train/2"], ["train/3", "train/4"]


def add(
    store: Store,
    setting: str,
    seed: int,
    forget: Sequence[str],
    where: str = "a",
    retain: Sequence[str] = ("train/8", "train/9"),
) -> None:
    """Commit an original and a method, with the table of roles that says what is forgotten."""
    spec = {"method": {"name": "lotus", "version": 1}, "seed": seed, "roles": f"{where}{seed}"}
    out = io.BytesIO()
    names = [*forget, *retain, f"val/{seed}"]
    roles = ["forget"] * len(forget) + ["retain"] * len(retain) + ["unseen"]
    pq.write_table(pa.table({"sample_id": names, "role": roles}), out)
    store.put(f"roles/{where}{seed}.parquet", out.getvalue())
    params = {"alpha": where, "retain": len(retain)}
    commit(store, "lotus", seed, params=params, setting=setting, spec=spec)


def seeds_by_setting(store: Store) -> list[tuple[str, list[int]]]:
    return sorted((entry.setting, sorted(entry.rows)) for entry in collect(store))


def names_of(found: list[tuple[str, list[int]]]) -> list[str]:
    return [setting for setting, _ in found]


@pytest.mark.parametrize("setting", ["ids_wanted", "user_1_2_3_4_…"])
def test_two_lists_of_one_name_are_no_seeds_of_one_experiment(setting: str, store: Store) -> None:
    """alice/wanted.txt of seed 1, and bob/wanted.txt of seed 2."""
    add(store, setting, 1, A, "alice")
    add(store, setting, 2, B, "bob")
    found = seeds_by_setting(store)
    assert [seeds for _, seeds in found] in ([[1], [2]], [[2], [1]])
    assert len(set(names_of(found))) == 2
    assert all(name.startswith(f"{setting}-") for name in names_of(found))


@pytest.mark.parametrize(("setting", "count"), [("ids_wanted", 2), ("ids_wanted_retain50pct", 1)])
def test_other_retain_sets_count_unless_they_are_drawn(
    setting: str, count: int, store: Store
) -> None:
    add(store, setting, 1, A, "first")
    add(store, setting, 2, A, "after", retain=("train/8",))
    assert len(seeds_by_setting(store)) == count


@pytest.mark.parametrize("setting", ["ids_wanted", "user_1_2_3_4_…", "request"])
def test_seeds_of_each_list_stay_together(setting: str, store: Store) -> None:
    for seed in (1, 2, 3):
        add(store, setting, seed, A, "alice")
        add(store, setting, seed, B, "bob")
    found = seeds_by_setting(store)
    assert [seeds for _, seeds in found] == [[1, 2, 3], [1, 2, 3]]
    assert len(set(names_of(found))) == 2


@pytest.mark.parametrize("setting", ["ids_wanted", "user_1_2_3_4_…", "request"])
def test_one_list_keeps_its_name(setting: str, store: Store) -> None:
    for seed in (1, 2):
        add(store, setting, seed, A)
    assert seeds_by_setting(store) == [(setting, [1, 2])]


@pytest.mark.parametrize("setting", ["instance_10pct", "tenth"])
def test_sets_that_are_drawn_for_each_seed_are_one_experiment(setting: str, store: Store) -> None:
    add(store, setting, 1, A)
    add(store, setting, 2, B)
    assert seeds_by_setting(store) == [(setting, [1, 2])]


def test_a_table_of_roles_that_is_torn_leaves_the_name(store: Store) -> None:
    add(store, "ids_wanted", 1, A)
    add(store, "ids_wanted", 2, A)
    store.replace("roles/a2.parquet", b"torn")
    assert seeds_by_setting(store) == [("ids_wanted", [1, 2])]
