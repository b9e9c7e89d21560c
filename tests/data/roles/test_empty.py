"""Every empty role has its own reason; wrong ids have theirs, with file and line."""

from __future__ import annotations

import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.roles.assign import Chosen, draw_roles
from tests.data.roles.test_assign import Counts, table


@pytest.mark.parametrize(
    ("counts", "forget", "what"),
    [
        ([(1, 4)], Chosen(fraction=0.5), "forget is empty: the forget set of the job chooses none"),
        ([(0, 4)], Chosen(fraction=0.5), "forget is empty: no image is for training"),
        ([(4, 4)], Chosen(per_class=4), "retain is empty: none of 4 training images is left"),
        ([(4, 0)], Chosen(fraction=0.5), "unseen is empty: no image is held out"),
        ([(4, 1)], Chosen(fraction=0.5), "test is empty: 1 held-out images are too few, 1 per"),
    ],
)
def test_each_empty_role_has_its_own_reason(counts: Counts, forget: Chosen, what: str) -> None:
    with pytest.raises(DataError, match=f"the role {what}") as raised:
        draw_roles(table(counts), 1, forget, seed=1)
    assert raised.value.next_command


def test_unknown_ids_are_named_by_file_and_line() -> None:
    listed = ("t0-00", "no\u200bbody", "x ")
    chosen = Chosen(sample_ids=listed, lines=("f.csv:2", "f.csv:3", "f.csv:7"))
    with pytest.raises(DataError, match="2 ids to forget are not in the data set") as raised:
        draw_roles(table([(4, 4)]), 1, chosen, seed=1)
    assert raised.value.where == "f.csv:3, 7"
    assert r"'no\u200bbody', 'x '" in raised.value.what
    assert raised.value.nearest == "ids such as t0-00"


def test_an_id_that_is_listed_twice_is_named_with_both_lines() -> None:
    chosen = Chosen(sample_ids=("t0-00", "t0-00"), lines=("f.csv:2", "f.csv:9"))
    with pytest.raises(DataError, match="named more than once: t0-00") as raised:
        draw_roles(table([(4, 4)]), 1, chosen, seed=1)
    assert raised.value.where == "f.csv:2, 9"
