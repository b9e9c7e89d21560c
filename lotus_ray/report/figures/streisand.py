"""Output entropies of forget, retain and test set: do forgotten images stand out?"""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotus_ray.base.errors import StoreError
from lotus_ray.base.roles import FORGET, RETAIN, TEST
from lotus_ray.metrics.outputs import SAMPLES
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import GREY
from lotus_ray.report.figures.rows import put_rows, rows_of, say, why_none
from lotus_ray.report.figures.sheet import (
    EM,
    GAP,
    INK,
    TEXT,
    WIDTH,
    Drawing,
    add_axes,
    mark_gold,
    number,
    sheet,
)
from lotus_ray.store.results import Store

TITLE = "Streisand view: output entropy"
FLOOR = 1e-10  # nats
BINS = 32
FOOT, SHARE = 0.42, 0.86  # of a row: position of its line, and highest histogram
_LINES: dict[str, dict[str, Any]] = {  # roles in the order of drawing
    RETAIN: {"color": GREY, "fill": True, "alpha": 0.3, "linewidth": 0},
    FORGET: {"color": INK, "linewidth": 1.8},  # roles are no methods, whose colours these are not
    TEST: {"color": "#c23b83", "linewidth": 1.6, "linestyle": (0, (3.5, 1.2))},
}
_TOP = 28.0
Entropies = dict[str, np.ndarray]  # log10 of nats, by role


def draw(group: Group, store: Store) -> Drawing:
    """Draw three histograms per method, with the same bins and the same scales for all."""
    seed = _common_seed(group)
    result = {} if seed is None else {e.method: entropies(e, seed, store) for e in group.entries}
    drawn = [values for by_role in result.values() if by_role for values in by_role.values()]
    if not drawn:
        return Drawing(TITLE, "No cell has outputs of its samples.")
    edges = bins(drawn)
    rows = rows_of(group, least=50.0)
    figure = sheet(_TOP + rows.height + GAP + 12)
    axes = put_rows(figure, rows, rows.left, WIDTH - rows.left - 16, _TOP)
    _put(axes, group, result, edges)
    _put_axis(axes, edges)
    mark_gold(axes, _middle(result.get(group.gold.method), FORGET) if group.gold else None)
    _put_key(figure, rows.left)
    return Drawing(
        TITLE,
        f"Histograms of the logarithm of output entropy, seed {seed}: densities on one scale, with "
        f"the same {BINS} bins for all; entropies below {FLOOR:g} nats are drawn at {FLOOR:g}. "
        "Forgotten images should look like test images: a forget set with higher entropy stands "
        "out. Dotted: the median of the forget set by the gold standard.",
        figure,
        _seen(group, result),
    )


def _middle(by_role: Entropies | None, role: str) -> float | None:
    values = (by_role or {}).get(role)
    return None if values is None else float(np.median(values))


def _seen(group: Group, result: dict[str, Entropies | None]) -> str:
    """Say for which method the forget set stands out most from the test set, by medians."""
    apart = {}
    for entry in group.rivals:
        forget, test = (_middle(result.get(entry.method), role) for role in (FORGET, TEST))
        if forget is not None and test is not None:
            apart[entry.method] = forget - test
    if not apart:
        return ""
    most = max(apart, key=lambda method: abs(apart[method]))
    way = "above" if apart[most] > 0 else "below"
    return (
        f"The forget set stands out most with {most}: its median entropy is "
        f"{10 ** abs(apart[most]):.1f} times {way} the test set's."
    )


def entropies(entry: Entry, seed: int, store: Store) -> Entropies | None:
    """Return log10 of the output entropies of one cell in nats, by role; None if not stored.

    Args:
        entry: the method.
        seed: of the cell.
        store: with the cell's artifacts.
    """
    row = entry.rows.get(seed)
    if row is None or not row.is_ok or SAMPLES not in row.artifacts:
        return None
    try:
        content = store.artifact(row, SAMPLES)
    except StoreError:
        return None
    table = pq.read_table(io.BytesIO(content), columns=["role", "entropy"])
    result = {role: table.filter(pc.equal(table["role"], role))["entropy"] for role in _LINES}
    return {
        role: np.log10(np.maximum(values.to_numpy(), FLOOR))
        for role, values in result.items()
        if len(values)
    }


def bins(samples: list[np.ndarray]) -> np.ndarray:
    """Return the edges of all histograms [BINS + 1], from the smallest value to the largest."""
    low = min(float(values.min()) for values in samples)
    high = max(float(values.max()) for values in samples)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _common_seed(group: Group) -> int | None:
    """Return the seed with the most good rows; the lowest of several."""
    counts = Counter(
        seed for entry in group.entries for seed, row in sorted(entry.rows.items()) if row.is_ok
    )
    return min(counts, key=lambda seed: (-counts[seed], seed), default=None)


def _put(
    axes: Axes, group: Group, by_method: dict[str, Entropies | None], edges: np.ndarray
) -> None:
    """Draw each method's histograms on the line of its row. The highest fills a row."""
    densities = {
        (row, role): np.histogram(values, edges, density=True)[0]
        for row, entry in enumerate(group.entries)
        for role, values in (by_method.get(entry.method) or {}).items()
    }
    highest = max(float(values.max()) for values in densities.values())
    for (row, role), values in densities.items():
        line = row + FOOT
        axes.stairs(
            line - values / highest * SHARE, edges, baseline=line, label=role, **_LINES[role]
        )
    for row, entry in enumerate(group.entries):
        axes.axhline(row + FOOT, color=INK, linewidth=0.8, alpha=0.35)
        if not by_method.get(entry.method):
            say(axes, row, why_none(entry))


def _put_axis(axes: Axes, edges: np.ndarray) -> None:
    decades = np.arange(np.ceil(edges[0]), np.floor(edges[-1]) + 1)
    ticks = decades[decades % max(1, round((edges[-1] - edges[0]) / 5)) == 0]
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xticks(ticks, [number(10**tick) for tick in ticks])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("output entropy, nats")


def _put_key(figure: Figure, left: float) -> None:
    axes = add_axes(figure, left, 0, WIDTH - left, _TOP - 4)
    axes.set(xlim=(0, WIDTH - left), ylim=(0, 1))
    axes.axis("off")
    x = 2.0
    for role, line in _LINES.items():
        level = 0.75 if line.get("fill") else 0.5
        axes.stairs([level], [x, x + 18], baseline=0.3 if line.get("fill") else level, **line)
        axes.text(x + 22, 0.5, role, va="center_baseline")
        x += 22 + EM * len(role) + TEXT + 8
