"""RF-JSD of each method."""

from __future__ import annotations

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Group
from lotus_ray.report.figures.agreement import divergences_span
from lotus_ray.report.figures.rows import put_dots, put_rows, rows_of
from lotus_ray.report.figures.sheet import GAP, WIDTH, Drawing, mark_gold, scale, sheet
from lotus_ray.report.resolution import rf_jsd_misleads
from lotus_ray.store.results import Store

TITLE = "RF-JSD"
_TOP = 20.0


def draw(group: Group, store: Store) -> Drawing:
    """Draw RF-JSD, one row per method."""
    if not any(entry.n("rf_jsd") for entry in group.entries):
        return Drawing(TITLE, "No cell has an RF-JSD.")
    rows = rows_of(group)
    figure = sheet(_TOP + rows.height + GAP + 12)
    axes = put_rows(figure, rows, rows.left, WIDTH - rows.left - 16, _TOP)
    scale(axes, "x", put_dots(axes, group, "rf_jsd"), log=divergences_span(group))
    axes.set_xlabel("RF-JSD")
    mark_gold(axes, group.gold.mean("rf_jsd") if group.gold else None, named=True)
    caption = (
        "How far the outputs on the forget set are from the original’s on unseen images: one dot "
        "per seed, the line is their mean. "
    )
    caption += (
        "Further left is no better here: the untouched original lies left of the gold standard."
        if rf_jsd_misleads(group)
        else "Further left is better."
    )
    if axes.get_xscale() == "log":
        caption += " The scale is logarithmic."
    return Drawing(TITLE, caption, figure, _seen(group))


def _seen(group: Group) -> str:
    """Say which unlearning methods are the ends, and where original and gold lie."""
    known = sorted(
        (entry for entry in group.rivals if entry.n("rf_jsd")),
        key=lambda entry: entry.mean("rf_jsd") or 0.0,
    )
    ends = (
        [
            (f"{word} {entry.method}", entry)
            for word, entry in zip(("least", "most"), (known[0], known[-1]), strict=True)
        ]
        if known
        else []
    )
    controls = [
        (entry.method, entry)
        for entry in (group.original, group.gold)
        if entry and entry.n("rf_jsd")
    ]
    text = ", ".join(
        f"{name} {METRICS['rf_jsd'].show(e.mean('rf_jsd'))}" for name, e in [*ends, *controls]
    )
    return f"RF-JSD: {text}."
