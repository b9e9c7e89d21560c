"""Classes that a role lacks, and images that play two roles, are said and are no error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lotus_ray.base.roles import FORGET, RETAIN, STORED
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import DIGEST_TYPE
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.roles.warnings import UNCHECKED, notes_on
from lotus_ray.data.sources import HELDOUT, TRAIN
from tests.toy import Sample, make_roles, source


def labels_of(roles: Roles, images: str | None) -> pa.Table:
    """Return a table in another order, with an image by letter for each sample; None knows none."""
    count = len(roles)
    digests = [letter.encode() * 32 for letter in images] if images else [None] * count
    table = pa.table(
        {
            "sample_id": roles.sample_ids,
            "label": roles.labels,
            "split": [TRAIN] * count,
            "sha256": pa.array(digests, DIGEST_TYPE),
        }
    )
    return table.take(pa.array(np.random.default_rng(0).permutation(count)))


def notes(letters: str, images: str | None, classes: int = 1) -> tuple[str, ...]:
    roles = make_roles(letters, [n % classes for n in range(len(letters))], classes)
    return notes_on(roles, labels_of(roles, images), [f"class {n}" for n in range(classes)])


def test_nothing_odd_is_nothing_to_say() -> None:
    assert notes("frut", "abcd") == ()


def test_an_image_under_two_roles_is_named_by_both_ids() -> None:
    """Rows 0 (forget) and 3 (test) hold the same bytes, rows 1 and 4 (both retain) too."""
    assert notes("frutr", "abcab") == ("forget and test share 1 image: s000 = s003",)


def test_images_are_counted_once_and_a_few_are_named() -> None:
    """a to d are in both; a three times. s000 and s001 show a to forget, s005 to retain."""
    said = notes("fffffrrrrut", "aabcdabcdxy")
    assert said == ("forget and retain share 4 images: s000 = s005, s002 = s006, s003 = s007, …",)


def test_every_two_roles_are_compared() -> None:
    assert notes("frutc", "aaaab") == tuple(
        f"{first} and {second} share 1 image: {one} = {two}"
        for first, second, one, two in (
            ("forget", "retain", "s000", "s001"),
            ("forget", "unseen", "s000", "s002"),
            ("forget", "test", "s000", "s003"),
            ("retain", "unseen", "s001", "s002"),
            ("retain", "test", "s001", "s003"),
            ("unseen", "test", "s002", "s003"),
        )
    )
    assert "unseen and calibration share 1 image: s002 = s004" in notes("frutc", "abcdc")


def test_a_class_that_a_role_lacks_is_counted_and_named() -> None:
    """Rows of classes 0 to 4 in turn: forget holds class 0 alone, and 4 of 5 are absent."""
    letters = "frrrrrrrrruuuuuttttt"
    said = notes(letters, "abcdefghijklmnopqrst", classes=5)
    assert said == (
        "forget holds no image of 4 of 5 classes, which metrics by class leave out: "
        "class 1, class 2, class 3, …",
    )


def test_a_class_that_is_forgotten_whole_is_named_with_what_it_costs() -> None:
    """Rows of classes 0 and 1 in turn: all of class 0 is forgotten; half of unseen, .4 of test."""
    assert notes("frfruutttttt"[:-1], "abcdefghijk", classes=2) == (
        "forget holds no image of 1 of 2 classes, which metrics by class leave out: class 1",
        "retain holds no image of 1 of 2 classes, which metrics by class leave out: class 0",
        "forgotten whole: class 0. A model that was never trained on it, as the gold standard, "
        "cannot recognise it: that alone costs 0.50 of its unseen accuracy and 0.60 of its test "
        "accuracy",
    )


def test_files_read_in_place_are_not_checked_and_that_is_said() -> None:
    assert notes("frut", None) == (UNCHECKED,)
    assert UNCHECKED.startswith("not checked: images that occur twice")


def test_images_without_a_digest_leave_the_others_checked() -> None:
    roles = make_roles("frut", [0] * 4, 1)
    table = labels_of(roles, "aabb").to_pylist()
    for row in table:
        row["sha256"] = None if row["sample_id"] == "s002" else row["sha256"]
    schema = labels_of(roles, "aabb").schema
    assert notes_on(roles, pa.Table.from_pylist(table, schema), ["c"]) == (
        UNCHECKED,
        "forget and retain share 1 image: s000 = s001",
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_shared_images_are_counted_as_by_hand_after_roles_are_drawn(
    tmp_path: Path, seed: int
) -> None:
    """40 training samples show 25 images: as many are shared as a loop over sets finds."""
    samples = [Sample(f"t{n:02d}", TRAIN, b"%d" % (n % 25), "", n % 2) for n in range(40)]
    samples += [Sample(f"h{n:02d}", HELDOUT, b"held out %d" % n, "", n % 2) for n in range(8)]
    made = prepare(source(samples, ("a", "b")), tmp_path / "d")
    labels = read_labels(made)
    roles = draw_roles(labels, 2, Chosen(fraction=0.4), seed)
    images = {sample.sample_id: sample.image for sample in samples}
    shown = [
        {images[roles.sample_ids[row]] for row in roles.indices(role)} for role in (FORGET, RETAIN)
    ]
    shared = len(shown[0] & shown[1])
    (note,) = notes_on(roles, labels, made.classes)
    assert shared > 1
    assert note.startswith(f"forget and retain share {shared} images: ")
    for pair in note.split(": ")[1].split(", ")[:3]:
        first, second = pair.split(" = ")
        assert images[first] == images[second]
        played = {
            STORED[roles.roles[roles.sample_ids.index(sample_id)]] for sample_id in (first, second)
        }
        assert played == {FORGET, RETAIN}
