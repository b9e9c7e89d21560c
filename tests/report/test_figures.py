from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from lotus_ray.report.collect import METHOD_ORDER
from lotus_ray.report.figures import FIGURES, draw, streisand
from lotus_ray.report.figures.agreement import Agreement, agreement
from lotus_ray.report.figures.looks import COLOURS, GREY, looks
from lotus_ray.report.figures.losses import curves
from lotus_ray.report.figures.sheet import WIDTH, cut, lines_of, number
from lotus_ray.report.figures.streisand import BINS, FLOOR, FOOT, SHARE
from lotus_ray.store.results import Store
from tests.report.made_up import commit, figure_of, group_of, lotus_phases, outputs


def dots(figure: Figure, axes: int = 0) -> dict[str, list[tuple[float, float]]]:
    """Return where the dots of each method lie."""
    return {
        str(found.get_label()): [
            tuple(map(float, point)) for point in np.asarray(found.get_offsets())
        ]
        for found in figure.axes[axes].collections
        if isinstance(found, PathCollection) and not str(found.get_label()).startswith("_child")
    }


def histograms(figure: Figure) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
    """Return the densities, up to one common factor, and edges of each row and role."""
    found = {}
    for patch in figure.axes[0].patches:
        assert isinstance(patch, StepPatch)
        values, edges, baseline = patch.get_data()
        row = round(float(np.asarray(baseline)) - FOOT)
        found[row, str(patch.get_label())] = ((row + FOOT - values) / SHARE, edges)
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("name", "metrics"),
    [("rf-jsd", ["rf_jsd"]), ("time", ["unlearn_seconds", "prepare_seconds", "evaluate_seconds"])],
)
def test_each_dot_is_the_value_of_a_seed_and_the_line_their_mean(
    full: Store, name: str, metrics: list[str]
) -> None:
    group, figure = group_of(full), figure_of(name, full)
    for place, metric in enumerate(metrics):
        drawn = dots(figure, place)
        assert list(drawn) == [entry.method for entry in group.entries]
        for row, entry in enumerate(group.entries):
            xs = [x for x, _ in drawn[entry.method]]
            assert xs == pytest.approx(list(entry.values[metric].values()))
            assert all(abs(y - row) < 0.3 for _, y in drawn[entry.method])
        lines = [
            line.get_xdata()[0]  # type: ignore[index]
            for line in figure.axes[place].lines
            if line.get_label() != "_gold"
        ]
        assert lines == pytest.approx([entry.mean(metric) for entry in group.entries])


def test_times_of_unlike_hardware_are_said_to_be_so(store: Store) -> None:
    commit(store, "scrub")
    commit(store, "ssd", error="the node went", resources={})  # nowhere, and has no time
    assert "hardware" not in draw("time", group_of(store), store).caption
    commit(store, "lotus", resources={"device": "H100", "workers": 2})
    told = "Different hardware: 1 × CPU: SCRUB; 2 × H100: LoTUS"
    drawing = draw("time", group_of(store), store)
    assert drawing.caption.endswith(f" {told}.")
    assert drawing.figure is not None
    drawing.figure.draw_without_rendering()
    (note,) = drawing.figure.texts
    assert note.get_text().split() == told.split()
    box = note.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= WIDTH
    assert box.y1 <= min(axes.xaxis.label.get_window_extent().y0 for axes in drawing.figure.axes)


def test_equal_seeds_do_not_hide_one_another(store: Store) -> None:
    for seed in (1, 2, 3):
        commit(store, "lotus", seed, metrics={"rf_jsd": 0.25})
    (points,) = dots(figure_of("rf-jsd", store)).values()
    assert len(set(points)) == 3


def test_a_method_without_a_value_says_so_in_its_row(store: Store) -> None:
    commit(store, "finetune", error="loss became nan")
    commit(store, "scrub", metrics={"rf_jsd": None})
    commit(store, "lotus")
    figure = figure_of("rf-jsd", store)
    said = {round(text.get_position()[1]): text.get_text() for text in figure.axes[0].texts}
    assert said == {0: "failed", 1: "no value"}


def test_scales_are_logarithmic_where_values_differ_by_much(store: Store) -> None:
    commit(store, "scrub", metrics={"rf_jsd": 0.001})
    commit(store, "lotus", metrics={"rf_jsd": 0.002})
    assert figure_of("rf-jsd", store).axes[0].get_xscale() == "linear"
    commit(store, "ssd", metrics={"rf_jsd": 0.1})
    assert figure_of("rf-jsd", store).axes[0].get_xscale() == "log"
    assert "logarithmic" in draw("rf-jsd", group_of(store), store).caption


def test_accuracies_of_the_trade_off_are_those_of_the_entries(full: Store) -> None:
    group, figure = group_of(full), figure_of("trade-off", full)
    drawn = dots(figure)
    for entry in group.entries:
        seeds = entry.values["retain_acc"]
        expected = [(seeds[seed], entry.values["forget_acc"][seed]) for seed in seeds]
        assert drawn[entry.method] == expected
    gold = group.gold
    assert gold is not None
    across, up = (line for line in figure.axes[0].lines if line.get_label() == "_gold")
    assert list(across.get_xdata()) == [gold.mean("retain_acc")] * 2  # type: ignore[arg-type]
    assert list(up.get_ydata()) == [gold.mean("forget_acc")] * 2  # type: ignore[arg-type]


def test_agreement_by_hand() -> None:
    """x 1, 2, 3 and y 1, 4, 3. Pearson: Σ dx·dy = 2, Σ dx² = 2, Σ dy² = 14/3; 2/√(28/3) = 0.6547.

    Ranks 1, 2, 3 and 1, 3, 2: Σ d² = 2; Spearman: 1 − 6·2/(3·8) = 0.5.
    """
    found = agreement([1, 2, 3], [1, 4, 3])
    assert found is not None
    assert math.isclose(found.pearson, 2 / math.sqrt(28 / 3))
    assert math.isclose(found.spearman, 0.5)


def test_agreement_of_a_monotone_relation() -> None:
    """Ranks agree wholly, numbers do not; a line agrees in both."""
    found = agreement([1, 2, 3, 4], [1, 10, 100, 1000])
    assert found is not None
    assert math.isclose(found.spearman, 1)
    assert found.pearson < 0.9
    assert agreement([1, 2, 3], [-2, -4, -6]) == Agreement(pytest.approx(-1), pytest.approx(-1))


def test_agreement_is_undefined_for_two_methods_or_equal_values() -> None:
    assert agreement([1, 2], [1, 2]) is None
    assert agreement([1, 1, 1], [1, 2, 3]) is None


def test_the_caption_has_the_correlations_of_what_is_drawn(full: Store) -> None:
    """Four unlearning methods; controls are left out."""
    group = group_of(full)
    xs = [entry.mean("rf_jsd") or 0 for entry in group.rivals]
    ys = [entry.mean("jsd") or 0 for entry in group.rivals]
    found = agreement(xs, ys)
    assert found is not None
    caption = draw("agreement", group, full).caption
    assert f"r = {found.pearson:.3f}" in caption
    assert f"ρ = {found.spearman:.3f} over 4 methods" in caption
    figure = figure_of("agreement", full)
    points = [tuple(np.asarray(c.get_offsets())[0]) for c in figure.axes[0].collections]
    assert points == list(zip(xs, ys, strict=True))


def test_without_three_methods_the_caption_says_why_there_is_no_correlation(store: Store) -> None:
    for method in ("original", "gold", "lotus", "scrub"):
        commit(store, method)
    assert "needs 3 methods, and 2 have" in draw("agreement", group_of(store), store).caption


def test_without_a_gold_standard_there_is_no_such_figure(store: Store) -> None:
    commit(store, "lotus")
    drawing = draw("agreement", group_of(store), store)
    assert drawing.figure is None
    assert "gold standard" in drawing.caption


def test_histograms_share_bins_and_scale_and_hold_the_entropies_of_the_samples(full: Store) -> None:
    """Densities times bin width add up to 1, once the factor common to all is taken out."""
    group = group_of(full)
    drawn = histograms(figure_of("streisand", full))
    assert set(drawn) == {
        (row, role) for row in range(len(group.entries)) for role in ("retain", "forget", "test")
    }
    _, edges = drawn[0, "forget"]
    assert len(edges) == BINS + 1
    assert all(np.array_equal(edges, other) for _, other in drawn.values())
    factors = {round(float(1 / (values * np.diff(edges)).sum()), 9) for values, _ in drawn.values()}
    assert len(factors) == 1
    found = streisand.entropies(group.entries[0], 1, full)
    assert found is not None
    expected = np.histogram(found["test"], edges, density=True)[0]
    assert drawn[0, "test"][0] * factors.pop() == pytest.approx(expected)
    assert max(values.max() for values, _ in drawn.values()) == pytest.approx(1)


def test_entropies_are_floored_and_not_scaled_set_by_set(store: Store) -> None:
    """0.01 nats are −2 whatever else is in the set; 0 nats are log10 of the floor."""
    for method, entropy in (("scrub", 0.0), ("lotus", 0.01)):
        kept = outputs(1, entropy=entropy)
        commit(store, method, files=kept)
    first, second = group_of(store).entries
    floored = streisand.entropies(first, 1, store)
    assert floored is not None
    assert set(floored["forget"]) == {math.log10(FLOOR)}
    found = streisand.entropies(second, 1, store)
    assert found is not None
    assert np.median(found["retain"]) == pytest.approx(-2, abs=0.4)
    assert f"{FLOOR:g} nats" in draw("streisand", group_of(store), store).caption


def test_histograms_are_of_the_seed_that_most_methods_have(store: Store) -> None:
    commit(store, "lotus", 1)
    for method in ("lotus", "scrub"):
        commit(store, method, 2)
    assert "seed 2:" in draw("streisand", group_of(store), store).caption


def test_samples_that_cannot_be_read_leave_the_row_empty(store: Store) -> None:
    commit(store, "scrub")
    cell_id = commit(store, "lotus")
    row = store.row(cell_id)
    assert row is not None
    (Path(store.location) / row.artifacts["samples.parquet"].name).write_bytes(b"torn")
    drawn = histograms(figure_of("streisand", store))
    assert {row for row, _ in drawn} == {0}


def test_curves_of_lotus_are_what_its_phases_note(store: Store) -> None:
    for seed in (1, 2):
        commit(store, "lotus", seed, phases=lotus_phases([1.5, 1.25 * seed]))
    upper, lower = figure_of("temperature", store).axes
    taus = [list(line.get_ydata()) for line in upper.lines]  # type: ignore[arg-type]
    assert taus == [[1.5, 1.25], [1.5, 2.5]]
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in lower.lines}  # type: ignore[arg-type]
    assert drawn == {"forget_accuracy": [1.0, 0.9], "unseen_accuracy": [0.75, 0.75]}


def test_losses_of_phases_of_unlike_length_are_apart(store: Store) -> None:
    phases = [
        {"steps": 2, "loss": 9.0},
        {"steps": 11, "loss": 0.5},
        {"steps": 2, "loss": 8.0},
        {"steps": 11, "loss": None},
    ]
    commit(store, "lotus", phases=phases)
    (entry,) = group_of(store).entries
    assert curves(entry.rows[1]) == {11: [(2, 0.5)], 2: [(1, 9.0), (3, 8.0)]}
    (axes,) = figure_of("losses", store).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5], [9.0, 8.0]]  # type: ignore[arg-type]


def test_a_method_looks_alike_in_every_figure_and_unlike_every_other(store: Store) -> None:
    for alpha in range(40):
        commit(store, "lotus", params={"alpha": float(alpha)})
    for method in ("original", "gold", "scrub", "ssd", "finetune"):
        commit(store, method)
    found = looks(group_of(store))
    assert len(found) == 45
    assert len(set(found.values())) == 45


def test_published_methods_look_alike_in_all_tables(tmp_path: Path) -> None:
    shown = []
    for place, others in enumerate(([], ["finetune", "scrub"])):
        store = Store.open(str(tmp_path / str(place)))
        store.check_writable()
        for method in ["lotus", *others]:
            commit(store, method)
        shown.append(looks(group_of(store))["LoTUS"])
    assert shown[0] == shown[1]


@pytest.mark.parametrize("colour", [*COLOURS, GREY])
@pytest.mark.parametrize("page", ["#fdfdfc", "#14161a"])
def test_colours_are_seen_on_light_and_dark(colour: str, page: str) -> None:
    """3:1 is what WCAG asks of graphics. The pages' colours are those of page.css."""
    css = Path(streisand.__file__).parents[1] / "page" / "page.css"
    assert f"--page: {page};" in css.read_text()
    assert contrast(colour, page) >= 3


@pytest.mark.parametrize("count", [1, 45])
def test_figures_stay_legible_with_many_methods(store: Store, count: int) -> None:
    """Rows have room for their names, and names do not leave the sheet."""
    for alpha in range(count):
        commit(
            store, "lotus", params={"alpha": float(alpha), "lr": 0.1}, phases=lotus_phases([1.5])
        )
    for name in ("rf-jsd", "time", "streisand"):
        figure = figure_of(name, store)
        figure.draw_without_rendering()
        texts = figure.axes[0].get_yticklabels()
        boxes = [text.get_window_extent() for text in texts]
        assert len(boxes) == count
        assert all(below.y1 <= above.y0 + 0.5 for above, below in pairwise(boxes))
        assert min(box.x0 for box in boxes) >= 0


def test_ticks_are_plain_numbers() -> None:
    assert [number(value) for value in (0, 0.05, 1, 7.5e-4, 1e-8, -0.5, 2e6)] == [
        "0",
        "0.05",
        "1",
        "7.5e−4",
        "1e−8",
        "−0.5",
        "2e6",
    ]


def test_long_names_are_cut_and_wrapped() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("日本語", 5) == "日本…"
    assert lines_of("LoTUS(alpha=8.0)", 12) == ["LoTUS", "(alpha=8.0)"]
    assert lines_of("a b c d", 1, most=2) == ["a", "…"]
    assert lines_of("", 5) == [""]


def test_published_methods_have_a_colour_and_a_marker_of_their_own(store: Store) -> None:
    """Nine methods, ten colours, eleven markers."""
    for label in METHOD_ORDER[2:]:
        commit(store, label)
    found = [looks(group_of(store))[label] for label in METHOD_ORDER[2:]]
    assert len({look.colour for look in found}) == len({look.marker for look in found}) == 9


def test_tick_labels_do_not_print_over_each_other(store: Store) -> None:
    """Seconds of preparing from .03 to 1.3, in a quarter of the width."""
    for method, seconds in (("finetune", 0.03), ("scrub", 0.2), ("lotus", 1.3)):
        timing = {"prepare_seconds": seconds, "unlearn_seconds": 9.0, "evaluate_seconds": 0.5}
        commit(store, method, timing=timing)
    figure = figure_of("time", store)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        assert len(boxes) > 1


def test_neighbours_have_one_kind_of_scale(store: Store) -> None:
    """JSD spans a factor of 40, RF-JSD of 2: both axes and both figures are logarithmic."""
    commit(store, "original")
    commit(store, "gold", files=outputs(1, "gold"))
    for method, value in (("finetune", 0.01), ("scrub", 0.015), ("lotus", 0.02)):
        commit(store, method, metrics={"rf_jsd": value * (1 if method != "lotus" else 6)})
    both = figure_of("agreement", store).axes[0]
    kinds = {both.get_xscale(), both.get_yscale(), figure_of("rf-jsd", store).axes[0].get_xscale()}
    assert kinds == {"log"}


def test_gold_is_marked_on_every_axis_that_has_it(full: Store) -> None:
    gold = group_of(full).gold
    assert gold is not None
    for name, metrics in (
        ("rf-jsd", ["rf_jsd"]),
        ("agreement", ["rf_jsd"]),
        ("time", ["unlearn_seconds", "prepare_seconds", "evaluate_seconds"]),
    ):
        for axes, metric in zip(figure_of(name, full).axes, metrics, strict=False):
            (line,) = [line for line in axes.lines if line.get_label() == "_gold"]
            assert line.get_xdata()[0] == gold.mean(metric)  # type: ignore[index]


def test_marks_that_coincide_stand_apart(store: Store) -> None:
    for method in ("original", "gold", "finetune", "scrub", "ssd", "lotus"):
        commit(store, method, metrics={"forget_accuracy": 1.0, "retain_accuracy": 1.0})
    axes = figure_of("trade-off", store).axes[0]
    marks = [one for one in axes.collections if str(one.get_label()).startswith("_child")]
    places = axes.transData.transform([np.asarray(mark.get_offsets())[0] for mark in marks])
    assert len(places) == 6
    apart = [math.dist(a, b) for index, a in enumerate(places) for b in places[index + 1 :]]
    assert min(apart) > 9


def test_each_figure_says_what_is_seen(full: Store) -> None:
    group = group_of(full)
    for name in FIGURES:
        drawing = draw(name, group, full)
        assert drawing.seen.endswith("."), name
    lowest = min(group.rivals, key=lambda entry: entry.mean("rf_jsd") or 0)
    said = draw("rf-jsd", group, full).seen
    assert said.startswith(f"RF-JSD: least {lowest.method} {lowest.mean('rf_jsd'):.2e}, ")
