"""Whether forgotten images stand out: output entropies of forget, retain and test set."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes

from lotus_ray.errors import StoreError
from lotus_ray.metrics.outputs import SAMPLES
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import GREY
from lotus_ray.report.figures.rows import rows_of, say, why_none
from lotus_ray.report.figures.sheet import EM, GAP, INK, TEXT, WIDTH, Drawing, number, place, sheet
from lotus_ray.roles import FORGET, RETAIN, TEST
from lotus_ray.store import OK, Store

TITLE = "Streisand view: output entropy"
FLOOR = 1e-10  # nats
BINS = 32
SHOWN = (RETAIN, FORGET, TEST)
_LINES = {
    RETAIN: {"color": GREY, "fill": True, "alpha": 0.3, "linewidth": 0},
    FORGET: {"color": "#d55e00", "linewidth": 1.7},
    TEST: {"color": "#0077bb", "linewidth": 1.4, "linestyle": (0, (3.5, 1.2))},
}
_TOP = 24.0
Entropies = dict[str, np.ndarray]  # log10 of nats, by role


def draw(group: Group, store: Store) -> Drawing:
    """Draw three histograms a method, with the same bins and the same scales for all."""
    seed = _common_seed(group)
    found = {} if seed is None else {e.method: entropies(e, seed, store) for e in group.entries}
    known = [values for by_role in found.values() if by_role for values in by_role.values()]
    if not known:
        return Drawing(TITLE, "No cell has outputs of its samples.")
    edges = bins(known)
    rows = rows_of(group, least=44.0)
    figure = sheet(_TOP + rows.height + GAP + 12)
    top, highest, panels = _TOP, 0.0, []
    for name, entry in zip(rows.names, group.entries, strict=True):
        axes = place(figure, rows.left, top, WIDTH - rows.left - 12, rows.pitch)
        axes.text(-0.025, 0.3, name, transform=axes.transAxes, ha="right", va="center_baseline")
        highest = max(highest, _put(axes, found.get(entry.method), edges, entry))
        panels.append(axes)
        top += rows.pitch
    for axes in panels:
        _finish(axes, edges, highest, is_last=axes is panels[-1])
    _put_key(panels[0], rows.left)
    return Drawing(
        TITLE,
        f"Histograms of the logarithm of output entropy, seed {seed}: densities on one scale, with "
        f"the same {BINS} bins for all; entropies below {FLOOR:g} nats are drawn there. Forgotten "
        "images should look like test images: a forget set that is more uncertain stands out.",
        figure,
    )


def entropies(entry: Entry, seed: int, store: Store) -> Entropies | None:
    """Return log10 of the output entropies of one cell by role, or None where there are none."""
    row = entry.rows.get(seed)
    if row is None or row["status"] != OK or SAMPLES not in row["artifacts"]:
        return None
    try:
        content = store.artifact(row, SAMPLES)
    except StoreError:
        return None
    table = pq.read_table(io.BytesIO(content), columns=["role", "entropy"])
    roles = table["role"].to_numpy()
    logs = np.log10(np.maximum(table["entropy"].to_numpy(), FLOOR))
    return {role: logs[roles == role] for role in SHOWN if (roles == role).any()}


def bins(known: list[np.ndarray]) -> np.ndarray:
    """Return the edges that all histograms share: from the smallest value to the largest."""
    low = min(float(values.min()) for values in known)
    high = max(float(values.max()) for values in known)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _common_seed(group: Group) -> int | None:
    """Return the seed that most methods have a good row of; the first of several."""
    counts = Counter(
        seed
        for entry in group.entries
        for seed, row in sorted(entry.rows.items())
        if row["status"] == OK
    )
    return min(counts, key=lambda seed: (-counts[seed], seed), default=None)


def _put(axes: Axes, by_role: Entropies | None, edges: np.ndarray, entry: Entry) -> float:
    """Draw the histograms of one method; return the highest density."""
    if not by_role:
        axes.set_ylim(0, 1)
        why = why_none(entry)
        axes.text(0.01, 0.3, why, transform=axes.transAxes, fontstyle="italic", alpha=0.7)
        return 0.0
    highest = 0.0
    for role, values in by_role.items():
        densities = np.histogram(values, edges, density=True)[0]
        axes.stairs(densities, edges, label=role, **_LINES[role])
        highest = max(highest, float(densities.max()))
    return highest


def _finish(axes: Axes, edges: np.ndarray, highest: float, *, is_last: bool) -> None:
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.12 * highest or 1), yticks=[])
    step = max(1, round((edges[-1] - edges[0]) / 5))
    decades = np.arange(np.ceil(edges[0]), np.floor(edges[-1]) + 1)
    ticks = decades[(decades % step) == 0]
    axes.set_xticks(ticks, [number(10**tick) for tick in ticks] if is_last else [])
    axes.tick_params(axis="x", length=3 if is_last else 0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_alpha(1 if is_last else 0.35)
    axes.grid(axis="x")
    if is_last:
        axes.set_xlabel("output entropy, nats")


def _put_key(first: Axes, left: float) -> None:
    figure = first.get_figure(root=True)
    assert figure is not None
    axes = place(figure, left, 0, WIDTH - left, _TOP - 4)  # type: ignore[arg-type]
    axes.set(xlim=(0, WIDTH - left), ylim=(0, 1))
    axes.axis("off")
    x = 2.0
    for role in SHOWN:
        line = _LINES[role]
        if line.get("fill"):
            axes.fill_between([x, x + 18], 0.3, 0.75, color=line["color"], alpha=line["alpha"])
        else:
            axes.plot([x, x + 18], [0.5, 0.5], **{k: v for k, v in line.items()})
        axes.text(x + 22, 0.5, role, va="center_baseline", color=INK)
        x += 22 + EM * len(role) + TEXT + 8
