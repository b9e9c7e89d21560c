from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import CALIBRATION, FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.class_names import class_number, with_calibration
from lotus_ray.data.sources import HELDOUT, TRAIN
from tests.toy import Sample, source

WNIDS = ("n02012849", "n03126707", "n07873807")
TITLES = ("crane", "crane", "pizza, pizza pie")


def data(folder: Path, prefix: str, classes: tuple[str, ...]) -> Manifest:
    """Prepare four training and two held-out images of each class."""
    samples = [
        Sample(f"{prefix}{label}{n}", TRAIN if n < 4 else HELDOUT, b"", "", label)
        for label in range(len(classes))
        for n in range(6)
    ]
    return prepare(source(samples, classes), folder / prefix)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return replace(data(tmp_path, "m", WNIDS), titles=TITLES)


def test_a_class_is_found_by_its_name_or_by_what_people_call_it(manifest: Manifest) -> None:
    assert class_number("n03126707", manifest, "job") == 1
    assert class_number("pizza", manifest, "job") == 2
    assert class_number("pizza pie", manifest, "job") == 2


def test_a_name_of_several_classes_is_refused(manifest: Manifest) -> None:
    """Four classes of ImageNet share the first synonym with another one."""
    with pytest.raises(DataError, match="2 classes are called 'crane'") as raised:
        class_number("crane", manifest, "job")
    assert raised.value.nearest == "n02012849 or n03126707"


def test_an_unknown_class_names_the_nearest(manifest: Manifest) -> None:
    with pytest.raises(DataError) as raised:
        class_number("piza", manifest, "job.yaml:3")
    assert (raised.value.nearest, raised.value.where) == ("pizza", "job.yaml:3")


def test_calibration_images_take_the_labels_of_the_data_set(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Their classes are in another order, by other names; all of their images calibrate."""
    calibration = data(tmp_path, "c", ("pizza", "n02012849"))
    table = with_calibration(read_labels(manifest), manifest, calibration)
    assert table["sample_id"].to_pylist() == sorted(table["sample_id"].to_pylist())
    added = {row["sample_id"]: row for row in table.to_pylist() if row["split"] == CALIBRATION}
    assert len(added) == 12
    assert {row["label"] for name, row in added.items() if name.startswith("c0")} == {2}
    assert {row["label"] for name, row in added.items() if name.startswith("c1")} == {0}


def test_calibration_images_leave_the_other_roles_as_they_are(
    manifest: Manifest, tmp_path: Path
) -> None:
    labels = read_labels(manifest)
    table = with_calibration(labels, manifest, data(tmp_path, "c", ("pizza",)))
    alone = draw_roles(labels, 3, Chosen(fraction=0.5), seed=1)
    both = draw_roles(table, 3, Chosen(fraction=0.5), seed=1)
    for role in (FORGET, RETAIN, UNSEEN, TEST):
        first, second = (
            [roles.sample_ids[row] for row in roles.indices(role)] for roles in (alone, both)
        )
        assert first == second
    assert len(both.indices(CALIBRATION)) == 6
    assert len(alone.indices(CALIBRATION)) == 0


def test_a_calibration_image_cannot_be_forgotten(manifest: Manifest, tmp_path: Path) -> None:
    table = with_calibration(read_labels(manifest), manifest, data(tmp_path, "c", ("pizza",)))
    with pytest.raises(DataError, match=r"are held out: .* calibration: c00"):
        draw_roles(table, 3, Chosen(sample_ids=("m00", "c00")), seed=1)


def test_calibration_images_of_other_classes_are_refused(
    manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no class 'burger'"):
        with_calibration(read_labels(manifest), manifest, data(tmp_path, "c", ("burger",)))


def test_shared_sample_ids_are_refused(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="18 sample ids are in"):
        with_calibration(read_labels(manifest), manifest, manifest)
