from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import scipy.stats

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.notes import notes
from lotus_ray.report.resolution import idle
from lotus_ray.report.statistics import (
    costs,
    hardware,
    interval,
    marks,
    noise_floor,
    rank_stability,
    unranked,
)
from lotus_ray.store.row import OK, Resources, Row

GPU = {"device": "H200", "device_type": "cuda", "workers": 2, "threads_per_worker": 8}
CPU = {"device": "EPYC", "device_type": "cpu", "workers": 1, "threads_per_worker": 2}


def entry(
    method: str,
    values: dict[str, list[float]],
    *,
    name: str = "lotus",
    resources: dict[str, Any] | None = None,
    **spec: Any,
) -> Entry:
    """Return a line whose metrics have a value for each of the seeds 1, 2, …"""
    by_seed = {metric: dict(enumerate(of, start=1)) for metric, of in values.items()}
    row = Row(
        method=method,
        status=OK,
        spec={"method": {"name": name, **spec}},
        resources=Resources(**(resources or CPU)),
    )
    seeds = {seed for of in by_seed.values() for seed in of} or {1}
    return Entry("B", "M", "S", method, dict.fromkeys(seeds, row), by_seed)


def gold(values: dict[str, list[float]], seed: int | None = None) -> Entry:
    label = "Gold Std" if seed is None else f"Gold Std({seed})"
    return entry(label, values, name="gold", training_seed=seed)


def group(*entries: Entry) -> Group:
    return Group("B", "M", "S", entries)


def rivals(metric: str, **values: list[float]) -> list[Entry]:
    return [entry(method, {metric: of}) for method, of in values.items()]


def test_interval_by_hand_and_by_scipy() -> None:
    """1, 2, 3: mean 2, s 1, t(2) 4.302653: 2 ± 4.302653/√3 = 2 ± 2.484138."""
    low, high = interval([1, 2, 3]) or (0, 0)
    assert (low, high) == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    values = [0.3, 0.1, 0.7, 0.2]
    expected = scipy.stats.t.interval(0.95, 3, scipy.stats.tmean(values), scipy.stats.sem(values))
    assert interval(values) == pytest.approx(expected, abs=1e-12)
    assert interval([1.0]) is None
    assert interval([]) is None


def test_costs_are_values_or_distances_from_the_gold_of_the_same_seed() -> None:
    golden = gold({"mia_acc": [0.5]})
    found = entry("A", {"mia_acc": [0.4, 0.9], "rf_jsd": [0.1, 0.2], "zrf": [1.0, 1.0]})
    assert costs(found, "rf_jsd", None) == {1: 0.1, 2: 0.2}
    assert costs(found, "mia_acc", golden) == pytest.approx({1: 0.1})
    assert costs(found, "mia_acc", None) == {}
    assert costs(found, "zrf", golden) == {}
    assert costs(found, "jsd", golden) == {}


def test_noise_floor_by_hand() -> None:
    """|0.5 − 0.4| and |0.2 − 0.5| average 0.2; JSD to gold 0.1 and 0.3 average 0.2; times none."""
    first = gold({"mia_acc": [0.4, 0.5], "jsd": [0.0, 0.0], "unlearn_seconds": [1.0, 1.0]})
    second = gold({"mia_acc": [0.5, 0.2], "jsd": [0.1, 0.3], "unlearn_seconds": [5.0, 5.0]}, 7)
    both = group(first, second)
    assert noise_floor(both, "mia_acc") == pytest.approx(0.2)
    assert noise_floor(both, "jsd") == pytest.approx(0.2)
    assert noise_floor(both, "unlearn_seconds") is None
    assert noise_floor(group(first), "jsd") is None
    assert noise_floor(group(second), "jsd") is None


def level(metric: str, by: float) -> list[Entry]:
    """Two gold standards that differ in a metric by so much, in each of three seeds."""
    return [gold({metric: [0.0] * 3}), gold({metric: [by] * 3}, 1)]


def test_best_and_second_are_marked_only_beyond_the_noise_floor() -> None:
    """Floor 0.1. A leads B by 0.2 and B leads C by 0.3; then by 0.05; then A leads B by 0.1."""
    golds = level("jsd", 0.1)
    clear = rivals("jsd", C=[0.6, 0.61, 0.6], A=[0.1] * 3, B=[0.3] * 3)
    assert marks(group(*golds, *clear), "jsd") == {"A": 1, "B": 2}
    close = rivals("jsd", A=[0.1] * 3, B=[0.3] * 3, C=[0.35] * 3)
    assert marks(group(*golds, *close), "jsd") == {"A": 1}
    even = rivals("jsd", A=[0.0] * 3, B=[0.1] * 3, C=[0.9] * 3)
    assert marks(group(*golds, *even), "jsd") == {}


def test_a_lead_beyond_the_floor_that_seeds_do_not_agree_on_is_no_lead() -> None:
    """B leads A by 0.1 twice and A leads B by 0.35 once: in the mean A, beyond a floor of 0.01."""
    golds = [gold({"jsd": [0.0] * 3}), gold({"jsd": [0.01] * 3}, 1)]
    found = group(*golds, *rivals("jsd", A=[0.2, 0.2, 0.1], B=[0.1, 0.1, 0.45]))
    assert marks(found, "rf_jsd") == {}


def test_a_floor_of_zero_marks_no_more_than_none() -> None:
    found = group(*level("jsd", 0.0), *rivals("jsd", A=[0.1, 0.3, 0.2], B=[0.2, 0.1, 0.2]))
    assert noise_floor(found, "jsd") == 0
    assert marks(found, "rf_jsd") == {}
    assert "noise floor, between two gold standards: JSD 0.00e+00" in notes(found, ("jsd",))


def test_one_seed_marks_nothing_however_far() -> None:
    golds = [gold({"jsd": [0.0]}), gold({"jsd": [0.1]}, 1)]
    found = group(*golds, *rivals("jsd", A=[0.1], B=[0.6]))
    assert marks(found, "rf_jsd") == {}
    assert notes(found, ("jsd",)) == [
        "noise floor, between two gold standards: JSD 1.00e-01",
        "one seed: no method is marked as best",
    ]


def test_without_a_second_gold_the_difference_over_seeds_must_be_clear() -> None:
    """A − B differ by 1 ± 0.1 in each seed though both vary much; C − B by −1, 1, 3."""
    found = group(*rivals("rf_jsd", A=[1, 5, 9], B=[2.1, 6.0, 9.9], C=[1.1, 7.0, 12.9]))
    assert marks(found, "rf_jsd") == {"A": 1}


def test_controls_are_never_best() -> None:
    original = entry("Original", {"rf_jsd": [0, 0, 0]}, name="original")
    found = group(
        original, gold({"rf_jsd": [0, 0, 0]}), *rivals("rf_jsd", A=[1, 1, 1], B=[2, 2, 2])
    )
    assert marks(found, "rf_jsd") == {"A": 1}


def test_a_method_that_lacks_a_seed_is_not_ranked_and_that_is_said() -> None:
    found = group(*rivals("rf_jsd", A=[0.1, 0.1], B=[2, 2, 2], C=[3, 3, 3], D=[4, 4, 4]))
    assert marks(found, "rf_jsd") == {"B": 1, "C": 2}
    assert unranked(found, "rf_jsd") == ["A"]
    assert "not ranked, because a seed is missing: A" in notes(found)
    assert not any("a seed is missing" in note for note in notes(group(*found.entries[1:])))


def test_a_method_whose_seconds_are_unknown_lacks_no_seed() -> None:
    """As weights from elsewhere. Why it has no time is a note of its own."""
    timed = rivals("rf_jsd", A=[1, 1, 1], B=[2, 2, 2])
    for each in timed:
        each.values["time_min"] = {1: 1.0, 2: 1.0, 3: 1.0}
    found = group(*timed, *rivals("rf_jsd", Theirs=[3, 3, 3]))
    assert unranked(found, "time_min") == ["Theirs"]
    assert not any("a seed is missing" in note for note in notes(found))


def test_near_gold_ranks_by_distance_on_both_sides() -> None:
    golds = [gold({"mia_acc": [0.5] * 3}), gold({"mia_acc": [0.51] * 3}, 1)]
    found = group(*golds, *rivals("mia_acc", A=[0.9] * 3, B=[0.45] * 3, C=[0.6] * 3))
    assert marks(found, "mia_acc") == {"B": 1, "C": 2}


def test_two_golds_of_unlike_recipes_are_told() -> None:
    golds = [entry(f"Gold Std(epochs={n})", {"jsd": [0.0]}, name="gold", epochs=n) for n in (1, 2)]
    found = notes(group(*golds, *rivals("mia_acc", A=[0.9], B=[0.45])), ("mia_acc",))
    assert found == [
        "more than one gold standard, so closeness to gold is not ranked: "
        "Gold Std(epochs=1), Gold Std(epochs=2)"
    ]


def test_two_seeds_mark_nothing_and_that_is_said() -> None:
    """Both differ by the same, so their interval has no width, and it excludes 0."""
    found = group(*rivals("rf_jsd", A=[1.0, 1.0], B=[2.0, 2.0]))
    assert marks(found, "rf_jsd") == {}
    assert "two seeds: no method is marked as best" in notes(found, ("rf_jsd",))


def test_one_image_of_difference_is_no_lead() -> None:
    """143 images: .983 and .990 differ by one of them, .976 and .990 by two."""
    one = 1 / 143
    for apart, best in ((1, {}), (2, {"A": 1})):
        values = {"A": [0.99] * 3, "B": [0.99 - apart * one] * 3}
        found = group(gold({"forget_acc": [0.99] * 3}), *rivals("forget_acc", **values))
        for each in found.entries:
            each.samples["forget"] = 143
        assert marks(found, "forget_acc") == best
        assert any("exceeds one image, and has" in note for note in notes(found, ("forget_acc",)))


def test_a_method_that_did_nothing_is_best_at_nothing() -> None:
    """SSD's outputs are the original's; A moved both divergences by half a percent, B by much."""
    start = {"rf_jsd": [0.1] * 3, "jsd": [0.2] * 3, "forget_acc": [1.0] * 3}
    near = {"rf_jsd": [0.1005] * 3, "jsd": [0.201] * 3, "forget_acc": [0.995] * 3}
    far = {"rf_jsd": [0.05] * 3, "jsd": [0.1] * 3, "forget_acc": [0.9] * 3}
    times = {"unlearn_seconds": [1.0] * 3}
    found = group(
        entry("Original", start, name="original"),
        entry("SSD", start | times | {"outputs_changed": [0.0] * 3}),
        entry("A", near | {"unlearn_seconds": [2.0] * 3}),
        entry("B", far | {"unlearn_seconds": [5.0] * 3}),
        entry("C", far | {"unlearn_seconds": [9.0] * 3}),
    )
    for each in found.entries:
        each.samples["forget"] = 200
    assert idle(found) == ["SSD", "A"]
    assert marks(found, "unlearn_seconds") == {"B": 1}
    assert any(note.startswith("not ranked, because nothing") for note in notes(found))


def test_times_of_unlike_hardware_are_not_ranked_and_that_is_said() -> None:
    slow, fast = [9.0, 9.1, 9.0], [1.0, 1.1, 1.0]
    alike = group(*rivals("unlearn_seconds", A=fast, B=slow, C=[20.0, 20.0, 20.0]))
    assert marks(alike, "unlearn_seconds") == {"A": 1, "B": 2}
    assert not any("hardware" in note for note in notes(alike))
    other = entry("A", {"unlearn_seconds": fast}, resources=GPU)
    unlike = group(other, *alike.entries[1:])
    assert marks(unlike, "unlearn_seconds") == {}
    assert hardware(unlike) == {"2 × H200": ["A"], "1 × EPYC, 2 threads": ["B", "C"]}
    assert (
        "times are not ranked: the hardware differs: 2 × H200: A; 1 × EPYC, 2 threads: B, C"
        in notes(unlike)
    )


def test_times_of_a_shared_gpu_are_not_ranked_and_that_is_said() -> None:
    """Other metrics are."""
    part = {**GPU, "workers": 1, "gpus_per_worker": 0.25}
    fast = {"unlearn_seconds": [1.0, 1.1, 1.0], "rf_jsd": [1.0, 1.1, 1.0]}
    slow = {"unlearn_seconds": [9.0, 9.1, 9.0], "rf_jsd": [9.0, 9.1, 9.0]}
    shared = group(entry("A", fast, resources=part), entry("B", slow, resources=part))
    assert marks(shared, "unlearn_seconds") == {}
    assert marks(shared, "rf_jsd") == {"A": 1}
    assert "times are not ranked: trials shared GPUs: 0.25 × H200: A, B" in notes(shared)


def test_a_time_beside_which_images_were_decoded_is_not_ranked_and_that_is_said() -> None:
    """Other metrics and the other methods are, and so is a time that was hardly disturbed."""
    costs = {"A": 1.0, "B": 9.0, "C": 20.0}
    found = group(
        *(
            entry(
                name, {metric: [cost, cost + 0.1, cost] for metric in ("unlearn_seconds", "rf_jsd")}
            )
            for name, cost in costs.items()
        )
    )
    assert marks(found, "unlearn_seconds") == {"A": 1, "B": 2}
    rows = found.entries[0].rows
    rows[2] = replace(rows[2], resources=Resources(**CPU, decoding_beside=0.3))
    other = found.entries[1].rows
    other[2] = replace(other[2], resources=Resources(**CPU, decoding_beside=0.009))
    assert marks(found, "unlearn_seconds") == {"B": 1}
    assert marks(found, "rf_jsd") == {"A": 1, "B": 2}
    assert "the time of A of seed 2 is not ranked: images were decoded beside it" in notes(found)
    assert Resources.from_json({"device": "EPYC"}).is_disturbed is False


def test_hardware_that_changed_between_attempts_is_told_as_it_was() -> None:
    changed = {**CPU, "workers": 1, "workers_by_attempt": [2, 2, 1, 2, 1]}
    (found,) = hardware(group(entry("A", {"unlearn_seconds": [1]}, resources=changed)))
    assert found == "2 then 1 then 2 then 1 × EPYC, 2 threads"


def test_seeds_of_one_method_on_unlike_hardware_are_unlike_too() -> None:
    found = group(*rivals("unlearn_seconds", A=[1.0] * 3, B=[9.0] * 3))
    assert marks(found, "unlearn_seconds") == {"A": 1}
    rows = found.entries[0].rows
    rows[2] = replace(rows[2], resources=Resources(**GPU))
    assert marks(found, "unlearn_seconds") == {}


def test_a_failed_cell_that_does_not_say_where_it_ran_makes_no_hardware_unlike() -> None:
    """As the row of a cell that lost its worker."""
    found = group(*rivals("unlearn_seconds", A=[1.0] * 3, B=[9.0] * 3))
    lost = Row(method="C", status="failed", spec={"method": {"name": "ssd"}})
    with_lost = group(*found.entries, Entry("B", "M", "S", "C", {1: lost}))
    assert marks(with_lost, "unlearn_seconds") == {"A": 1}
    assert not any("unlike" in note for note in notes(with_lost))


def test_rank_stability_by_hand() -> None:
    """Ranks 1 2 3 and 1 3 2: two pairs agree, one does not, τ = (2 − 1)/3; three seeds average."""
    found = rank_stability(group(*rivals("jsd", A=[1, 1], B=[2, 3], C=[3, 2])), "jsd")
    assert found is not None
    assert math.isclose(found.tau, 1 / 3)
    assert found.ranks == {"A": {1: 1, 2: 1}, "B": {1: 2, 2: 3}, "C": {1: 3, 2: 2}}
    three = rank_stability(group(*rivals("jsd", A=[1, 1, 3], B=[2, 2, 2], C=[3, 3, 1])), "jsd")
    assert three is not None
    assert math.isclose(three.tau, (1 - 1 - 1) / 3)


def test_rank_stability_needs_two_methods_two_seeds_and_a_difference() -> None:
    assert rank_stability(group(*rivals("jsd", A=[1, 2])), "jsd") is None
    assert rank_stability(group(*rivals("jsd", A=[1], B=[2])), "jsd") is None
    assert rank_stability(group(*rivals("jsd", A=[1, 1], B=[1, 1])), "jsd") is None


def test_notes_name_the_floor_in_the_columns_shown() -> None:
    golds = [gold({"jsd": [0.0], "mia_acc": [0.5]}), gold({"jsd": [0.125], "mia_acc": [0.75]}, 1)]
    found = notes(group(*golds, *rivals("jsd", A=[0.1], B=[0.2])), ("jsd",))
    assert found == [
        "noise floor, between two gold standards: JSD 1.25e-01",
        "one seed: no method is marked as best",
    ]


def test_notes_say_how_marks_are_made_where_something_is_compared() -> None:
    one = notes(group(*rivals("rf_jsd", A=[0.1], B=[0.2])), ("rf_jsd",))
    assert one == ["one seed: no method is marked as best"]
    three = notes(group(*rivals("rf_jsd", A=[1, 1, 1], B=[2, 2, 2])), ("rf_jsd",))
    how = "the difference has a 95 % interval over seeds without 0"
    assert three == [
        f"best and second best are marked if {how}",
        "agreement of seeds on the ranking, Kendall's τ: RF-JSD 1.00",
    ]
    assert notes(group(*rivals("zrf", A=[1, 1], B=[2, 2])), ("zrf",)) == []
    assert notes(group(*rivals("rf_jsd", A=[1, 1])), ("rf_jsd",)) == []


def test_a_reason_names_its_seeds_only_where_others_have_a_value() -> None:
    some = entry("A", {"jsd": [0.1]})
    some.undefined["jsd"] = {7: "no gold", 3: "no gold"}
    none = entry("B", {})
    none.undefined.update({"rf_jsd": {1: "no class"}, "zrf": {1: "no class"}})
    found = notes(group(some, none), ("jsd", "rf_jsd"))
    assert found[:2] == ["no JSD of seed 3, 7: no gold", "no RF-JSD: no class"]
