from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import FORGET, OTHER_TRAIN, RETAIN, ROLES, STORED, TEST, UNSEEN
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN

Counts = list[tuple[int, int]]  # training and held-out samples of each class
COUNTS = st.tuples(
    st.tuples(st.integers(2, 15), st.integers(2, 9)),  # enough that no role is empty
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 9)), max_size=4),
).map(lambda drawn: [drawn[0], *drawn[1]])
FRACTION = st.floats(0.01, 0.99)
SEED = st.integers(0, 2**32)
small = settings(max_examples=30, deadline=None)


def table(counts: Counts, shuffle: int | None = None) -> pa.Table:
    """Return labels with so many samples of each class, sorted by id or shuffled."""
    rows = [
        {"sample_id": f"{split[0]}{label}-{number:02d}", "label": label, "split": split}
        for label, both in enumerate(counts)
        for split, count in zip((TRAIN, HELDOUT), both, strict=True)
        for number in range(count)
    ]
    rows.sort(key=lambda row: str(row["sample_id"]))
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    schema = pa.schema([("sample_id", pa.string()), ("label", pa.int64()), ("split", pa.string())])
    return pa.Table.from_pylist(rows, schema)


def by_id(roles: Roles) -> dict[str, str]:
    """Return the role of each sample."""
    names = [STORED[role] for role in roles.roles]
    return dict(zip(roles.sample_ids, names, strict=True))


def count(roles: Roles, role: str, label: int) -> int:
    """Return how many samples of a class play a role."""
    return int((roles.labels[roles.indices(role)] == label).sum())


@small
@given(COUNTS, FRACTION, SEED)
def test_every_sample_has_one_role_of_its_own_split(
    counts: Counts, fraction: float, seed: int
) -> None:
    labels = table(counts)
    roles = draw_roles(labels, len(counts), Chosen(fraction=fraction), seed)
    assert roles.sample_ids == labels["sample_id"].to_pylist()
    assert roles.labels.tolist() == labels["label"].to_pylist()
    parts = [set(roles.indices(role).tolist()) for role in ROLES]
    assert sum(map(len, parts)) == len(roles) == len(set.union(*parts))
    allowed = {TRAIN: {FORGET, RETAIN}, HELDOUT: {UNSEEN, TEST}}
    splits = labels["split"].to_pylist()
    drawn = by_id(roles).values()
    assert all(role in allowed[split] for role, split in zip(drawn, splits, strict=True))


@small
@given(COUNTS, FRACTION, SEED)
def test_every_class_gives_its_part(counts: Counts, fraction: float, seed: int) -> None:
    roles = draw_roles(table(counts), len(counts), Chosen(fraction=fraction), seed)
    for label, (trained, heldout) in enumerate(counts):
        forgotten = count(roles, FORGET, label)
        unseen = count(roles, UNSEEN, label)
        assert forgotten + count(roles, RETAIN, label) == trained
        assert unseen + count(roles, TEST, label) == heldout
        assert unseen - count(roles, TEST, label) in (0, 1)
        if trained < 2:
            assert forgotten == 0
        elif forgotten in (1, trained - 1):
            assert abs(forgotten - fraction * trained) <= 1
        else:
            assert abs(forgotten - fraction * trained) <= 0.5


@pytest.mark.parametrize(
    ("trained", "fraction", "forgotten"),
    [(10, 0.1, 1), (10, 0.26, 3), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1), (1, 0.9, 0)],
)
def test_forget_counts_by_hand(trained: int, fraction: float, forgotten: int) -> None:
    """round(1.0) = 1, round(2.6) = 3; at least 1, at most n − 1, and none of a class of one."""
    roles = draw_roles(table([(4, 2), (trained, 0)]), 2, Chosen(fraction=fraction), seed=1)
    assert count(roles, FORGET, 1) == forgotten


@small
@given(COUNTS, FRACTION, SEED, st.integers(0, 99))
def test_roles_do_not_depend_on_the_order_of_the_rows(
    counts: Counts, fraction: float, seed: int, shuffle: int
) -> None:
    ordered = draw_roles(table(counts), len(counts), Chosen(fraction=fraction), seed)
    shuffled = draw_roles(table(counts, shuffle), len(counts), Chosen(fraction=fraction), seed)
    assert by_id(shuffled) == by_id(ordered)


@small
@given(COUNTS, FRACTION, SEED)
def test_roles_of_a_class_do_not_depend_on_other_classes(
    counts: Counts, fraction: float, seed: int
) -> None:
    alone = by_id(draw_roles(table(counts[:1]), 1, Chosen(fraction=fraction), seed))
    among = by_id(draw_roles(table(counts), len(counts), Chosen(fraction=fraction), seed))
    assert alone == {name: among[name] for name in alone}


@small
@given(COUNTS, FRACTION, SEED, st.integers(1, 12))
def test_a_limit_keeps_so_many_samples_of_each_role_and_changes_none(
    counts: Counts, fraction: float, seed: int, limit: int
) -> None:
    full = draw_roles(table(counts), len(counts), Chosen(fraction=fraction), seed)
    limited = draw_roles(table(counts), len(counts), Chosen(fraction=fraction), seed, limit=limit)
    for role in ROLES:
        assert len(limited.indices(role)) == min(limit, len(full.indices(role)))
    assert by_id(limited).items() <= by_id(full).items()
    assert limited.sample_ids == sorted(limited.sample_ids)
    own = dict(zip(full.sample_ids, full.labels, strict=True))
    assert all(own[s] == label for s, label in zip(limited.sample_ids, limited.labels, strict=True))


def test_a_limit_does_not_take_the_first_ids() -> None:
    full = draw_roles(table([(50, 50), (50, 50)]), 2, Chosen(fraction=0.5), seed=1)
    limited = draw_roles(table([(50, 50), (50, 50)]), 2, Chosen(fraction=0.5), seed=1, limit=10)
    firsts = [full.sample_ids[row] for row in full.indices(RETAIN)[:10]]
    assert [limited.sample_ids[row] for row in limited.indices(RETAIN)] != firsts


def test_seeds_draw_differently_and_the_same_seed_alike() -> None:
    labels = table([(50, 20), (50, 20)])
    first, again, other = (draw_roles(labels, 2, Chosen(fraction=0.3), seed) for seed in (1, 1, 2))
    assert first.digest == again.digest
    assert by_id(first) != by_id(other)
    unseen = [set(r.indices(UNSEEN).tolist()) for r in (first, other)]
    assert unseen[0] != unseen[1]


@pytest.mark.parametrize(
    ("counts", "role"),
    [([(1, 4)], FORGET), ([(0, 4)], FORGET), ([(4, 0)], UNSEEN), ([(4, 1)], TEST)],
)
def test_a_role_without_samples_is_an_error(counts: Counts, role: str) -> None:
    with pytest.raises(DataError, match=f"the role {role} is empty"):
        draw_roles(table(counts), 1, Chosen(fraction=0.5), seed=1)


def test_rows_by_hand() -> None:
    """Roles f u r f t: forget is rows 0 and 3, retain and test rows 2 and 4."""
    roles = Roles(list("abcde"), np.zeros(5, np.int64), np.array([0, 2, 1, 0, 3], np.int8), 1)
    assert roles.indices(FORGET).tolist() == [0, 3]
    assert roles.indices(RETAIN, TEST).tolist() == [2, 4]
    assert roles.indices().tolist() == []


def test_a_table_of_roles_survives_parquet() -> None:
    roles = draw_roles(table([(7, 3), (5, 2)]), 3, Chosen(fraction=0.4), seed=1)
    found = Roles.from_parquet(roles.to_parquet())
    assert by_id(found) == by_id(roles)
    assert found.labels.tolist() == roles.labels.tolist()
    assert found.num_classes == 3
    assert found.digest == roles.digest


def test_the_digest_depends_on_ids_labels_and_roles() -> None:
    roles = draw_roles(table([(7, 3), (5, 2)]), 2, Chosen(fraction=0.4), seed=1)
    others = [
        replace(roles, sample_ids=["x", *roles.sample_ids[1:]]),
        replace(roles, labels=1 - roles.labels),
        replace(roles, roles=3 - roles.roles),
    ]
    assert len({roles.digest, *(other.digest for other in others)}) == 4


def test_a_count_is_taken_from_every_class_and_the_rest_is_kept_apart() -> None:
    """Of 7 and 5 training samples 2 are forgotten and 3 retained: 2 and 0 are left as rest."""
    labels = table([(7, 2), (5, 2)])
    chosen = {"forget": Chosen(per_class=2), "retain": Chosen(per_class=3)}
    roles = draw_roles(labels, 2, seed=1, **chosen)
    assert [count(roles, FORGET, label) for label in (0, 1)] == [2, 2]
    assert [count(roles, RETAIN, label) for label in (0, 1)] == [3, 3]
    assert [count(roles, OTHER_TRAIN, label) for label in (0, 1)] == [2, 0]
    without = draw_roles(labels, 2, seed=1, keep_other_train=False, **chosen)
    assert by_id(without) == {i: role for i, role in by_id(roles).items() if role != OTHER_TRAIN}


def test_a_part_of_the_others_is_retained() -> None:
    """Of 10 training samples a class 2 are forgotten and a quarter of the other 8 retained."""
    roles = draw_roles(
        table([(10, 2), (10, 2)]),
        2,
        Chosen(fraction=0.2),
        seed=1,
        retain=Chosen(fraction=0.25),
    )
    assert [len(roles.indices(role)) for role in (FORGET, RETAIN, OTHER_TRAIN)] == [4, 4, 12]


def test_whole_classes_are_forgotten() -> None:
    roles = draw_roles(table([(4, 2), (6, 2), (5, 2)]), 3, Chosen(classes=(1,)), seed=1)
    assert [count(roles, FORGET, label) for label in range(3)] == [0, 6, 0]
    assert [count(roles, RETAIN, label) for label in range(3)] == [4, 0, 5]


def test_ids_are_forgotten_one_by_one() -> None:
    labels = table([(4, 2), (6, 2)])
    trained = [row["sample_id"] for row in labels.to_pylist() if row["split"] == "train"]
    named = (trained[7], trained[0], trained[3])
    roles = draw_roles(labels, 2, Chosen(sample_ids=named), seed=1)
    assert {i for i, role in by_id(roles).items() if role == FORGET} == set(named)


@pytest.mark.parametrize("fault", ["missing", "repeated", "held out"])
def test_wrong_ids_are_refused_by_name(fault: str) -> None:
    labels = table([(4, 2), (6, 2)])
    rows = labels.to_pylist()
    trained = [row["sample_id"] for row in rows if row["split"] == "train"]
    held_out = [row["sample_id"] for row in rows if row["split"] != "train"]
    wrong = {"missing": "nobody", "repeated": trained[0], "held out": held_out[1]}[fault]
    with pytest.raises(DataError) as raised:
        draw_roles(labels, 2, Chosen(sample_ids=(trained[0], wrong)), seed=1)
    assert f": {wrong}" in str(raised.value)
    what = {"missing": "not in the data", "repeated": "more than once", "held out": "are held out"}
    assert what[fault] in str(raised.value)


@small
@given(
    st.lists(st.sampled_from([f"t0-{n:02d}" for n in range(8)]), max_size=6, unique=True),
    st.lists(st.text(max_size=8).filter(lambda text: not text.startswith(("t0-", "h0-")))),
)
def test_ids_that_are_missing_are_counted_and_listed(known: list[str], unknown: list[str]) -> None:
    """Of 8 training samples: ids that are there are forgotten, and any other one is an error."""
    labels = table([(8, 4)])
    chosen = Chosen(sample_ids=(*known, *unknown))
    missing = list(dict.fromkeys(unknown))
    if missing:
        with pytest.raises(DataError) as raised:
            draw_roles(labels, 1, chosen, seed=1)
        assert raised.value.what.startswith(f"{len(missing)} ids to forget are not in the data set")
        plain = [i for i in missing[:10] if i.isprintable() and i.strip() == i != ""]
        assert all(name in raised.value.what for name in plain)
        assert raised.value.what.isprintable()
        assert raised.value.what.endswith(", …") == (len(missing) > 10)
    elif known:
        roles = draw_roles(labels, 1, chosen, seed=1)
        assert {i for i, role in by_id(roles).items() if role == FORGET} == set(known)


@small
@given(st.data())
def test_ids_that_would_play_two_roles_are_counted(data: st.DataObject) -> None:
    """Ids of 6 training and 4 held-out samples, as a file may name them: with and without fault."""
    labels = table([(6, 4)])
    ids = labels["sample_id"].to_pylist()
    named = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=5))
    repeated = {i for i in named if named.count(i) > 1}
    held_out = {i for i in named if i.startswith("h")}
    if not repeated and not held_out:
        roles = draw_roles(labels, 1, Chosen(sample_ids=tuple(named)), seed=1)
        assert {i for i, role in by_id(roles).items() if role == FORGET} == set(named)
        return
    with pytest.raises(DataError) as raised:
        draw_roles(labels, 1, Chosen(sample_ids=tuple(named)), seed=1)
    wrong, what = (repeated, "are named more than once") if repeated else (held_out, "are held out")
    assert raised.value.what.startswith(f"{len(wrong)} ids to forget {what}")
    assert all(i in raised.value.what for i in wrong)


def test_the_roles_of_a_small_table_stay_what_they_are() -> None:
    """Known from the first version: a change of it would make every cell a new one."""
    roles = draw_roles(table([(7, 3), (0, 0), (5, 2)]), 3, Chosen(fraction=0.4), seed=1)
    assert roles.digest[:16] == "5197eb46019aa91c"
