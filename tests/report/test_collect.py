from __future__ import annotations

import math

from lotus_ray.data.roles.warnings import WHOLE_CLASS
from lotus_ray.report.collect import collect
from lotus_ray.report.entries import groups
from lotus_ray.report.notes import notes
from lotus_ray.store.results import Store
from tests.stores import FIRST, LAST, commit


def of_metrics(store: Store, version: int) -> None:
    """Commit a group under a version of the metrics, as ids and specs know it."""
    for method, probs in (("original", FIRST), ("gold", FIRST), ("lotus", LAST)):
        commit(store, method, probs=probs, version=version)


def test_cells_of_earlier_metrics_give_way_and_are_counted(store: Store) -> None:
    of_metrics(store, 1)
    assert len(collect(store)) == 3
    of_metrics(store, 2)
    found = collect(store)
    assert [entry.method for entry in found] == ["Original", "Gold Std", "LoTUS"]
    assert {row.spec["metrics"] for entry in found for row in entry.rows.values()} == {2}
    assert math.isclose(found[2].mean("jsd") or 0, math.log(2))
    assert "cells of earlier metrics that are not shown: 3" in notes(groups(found)[0])


def test_cells_that_differ_in_more_than_their_metrics_are_all_shown(store: Store) -> None:
    commit(store, "lotus", params={"alpha": 2.0}, version=1)
    commit(store, "lotus", params={"alpha": 8.0}, version=2)
    commit(store, "lotus", seed=2, params={"alpha": 8.0}, version=1)
    found = collect(store)
    assert sum(len(entry.rows) for entry in found) == 3
    assert not any(entry.older for entry in found)


def test_what_is_undefined_is_known_by_seed(store: Store) -> None:
    for seed in (1, 2):
        commit(store, "original", seed)
        commit(store, "lotus", seed)
    commit(store, "gold", 2)
    (found,) = [entry for entry in collect(store) if entry.method == "LoTUS"]
    assert found.undefined["jsd"] == {1: "there is no gold standard of this seed"}
    assert set(found.values["jsd"]) == {2}
    said = notes(groups(collect(store))[0], ("jsd",))
    assert "no JSD of seed 1: there is no gold standard of this seed" in said


def test_seconds_of_devices_are_unknown_where_their_number_changed(store: Store) -> None:
    """60 s on two workers are 120; on two and then one, or on a shared GPU, nobody knows."""
    commit(store, "original", 1, resources={"workers": 2})
    commit(store, "original", 2, resources={"workers": 1, "workers_by_attempt": [2, 1]})
    commit(store, "original", 3, resources={"workers": 1, "gpus_per_worker": 0.25})
    (found,) = collect(store)
    assert found.values["unlearn_device_seconds"] == {1: 120}
    assert found.undefined["unlearn_device_seconds"] == {
        2: "the number of workers changed between attempts",
        3: "its GPU was shared with other trials",
    }
    assert set(found.values["unlearn_seconds"]) == {1, 2, 3}


def ssd_phase(dampened: int, share: float) -> dict[str, float | None]:
    return {
        "steps": 0,
        "loss": None,
        "dampened": dampened,
        "weights": 11_173_962,
        "forget_share": share,
    }


def test_a_class_that_is_forgotten_whole_is_explained_once(store: Store) -> None:
    why = f"{WHOLE_CLASS}cat. A model that was never trained on it …"
    for method in ("original", "gold", "finetune"):
        commit(store, method, data_notes=[why, "forget and test share 1 image: a = b"])
    (group,) = groups(collect(store))
    assert [note for note in notes(group) if "cat" in note or "share" in note] == [why]


def test_what_ssd_dampened_is_said_and_why_it_may_be_nothing(store: Store) -> None:
    """α = 10 at a share of 0.102, 40 batches of 392, is 1.02: nothing. α = 2 is 0.204."""
    for seed, dampened in ((1, 0), (2, 8)):
        phase = ssd_phase(dampened, 40 / 392)
        commit(store, "ssd", seed, params={"alpha": 10.0}, phases=[phase])
    commit(store, "lotus", phases=[{"steps": 3, "loss": 1.0}])
    (group,) = groups(collect(store))
    assert notes(group, ())[-1] == (
        "ssd dampened 0 / 8 of 11,173,962 weights: next to nothing can be selected with an alpha "
        "of 9.8 or more, since the forget set is 0.102 of all that it is compared with"
    )


def test_ssd_with_a_small_alpha_is_said_without_a_reason_also_within_salun(store: Store) -> None:
    phase = ssd_phase(950, 40 / 392)
    commit(store, "ssd", params={"alpha": 2.0}, phases=[phase])
    commit(store, "salun", params={"inner": {"name": "ssd", "alpha": 2.0}}, phases=[phase])
    (group,) = groups(collect(store))
    expected = [f"{name} dampened 950 of 11,173,962 weights" for name in ("salun", "ssd")]
    assert sorted(notes(group, ()))[-2:] == expected


def test_a_setting_that_only_one_variant_has_is_told_of_it_alone(store: Store) -> None:
    commit(store, "lotus")
    commit(store, "lotus", params={"lr_decay": [3, 5]})
    commit(store, "finetune", params={"head_only": False})
    commit(store, "finetune", params={"other": 1})  # of an older version, say
    found = sorted(entry.method for entry in collect(store))
    assert found == [
        "Finetuning",
        "Finetuning(head_only=-, other=1)",
        "LoTUS",
        "LoTUS(lr_decay=[3, 5])",
    ]
