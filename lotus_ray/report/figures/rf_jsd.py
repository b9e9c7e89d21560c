"""RF-JSD of each method."""

from __future__ import annotations

from lotus_ray.report.entries import Group
from lotus_ray.report.figures.rows import put_dots, put_rows, rows_of
from lotus_ray.report.figures.sheet import GAP, WIDTH, Drawing, scale, sheet
from lotus_ray.store.results import Store

TITLE = "RF-JSD"
_TOP = 8.0


def draw(group: Group, store: Store) -> Drawing:
    """Draw RF-JSD, one row per method."""
    if not any(entry.n("rf_jsd") for entry in group.entries):
        return Drawing(TITLE, "No cell has an RF-JSD.")
    rows = rows_of(group)
    figure = sheet(_TOP + rows.height + GAP + 12)
    axes = put_rows(figure, rows, rows.left, WIDTH - rows.left - 12, _TOP)
    scale(axes, "x", put_dots(axes, group, "rf_jsd"))
    axes.set_xlabel("RF-JSD")
    caption = (
        "How far the outputs on the forget set are from the original’s on unseen images: one dot "
        "per seed, the line is their mean. Further left is better."
    )
    if axes.get_xscale() == "log":
        caption += " The scale is logarithmic."
    return Drawing(TITLE, caption, figure)
