"""The relearn curve as a small figure: SVG in the page, so that nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from lotus_ray.audit.predicate import RelearnCurve

_WIDTH, _HEIGHT = 560.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 12.0, 52.0
_MARK = 3.0  # radius
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LABELS = 7  # along x, at most
_CAPTION = "Share of images that the model recognises"


def lines(curve: RelearnCurve) -> list[tuple[str, str, list[float]]]:
    """Return name, CSS classes and values of each line: a colour a model, new images dashed."""
    found = [("new model, forgotten images", "own", curve.unlearned.forget)]
    if curve.unlearned.unseen:
        found.append(("new model, new images of the same kinds", "own new", curve.unlearned.unseen))
    if curve.gold:
        found.append(("model trained again, forgotten images", "gold", curve.gold.forget))
        if curve.gold.unseen:
            name = "model trained again, new images of the same kinds"
            found.append((name, "gold new", curve.gold.unseen))
    return found


def seen(curve: RelearnCurve) -> str:
    """Say what the figure shows, for those who do not see it."""
    ends = [f"{name}: {values[0]:.0%} to {values[-1]:.0%}" for name, _, values in lines(curve)]
    return (
        f"Lines of the share of images that are recognised, over {curve.steps[-1]} steps of "
        f"learning from other images. {'; '.join(ends)}."
    )


def figure(curve: RelearnCurve) -> Markup:
    """Return the figure and what its lines mean."""
    parts = [*_axes(curve.steps)]
    for _, classes, values in lines(curve):
        points = [
            (_x(step, curve.steps[-1]), _y(value))
            for step, value in zip(curve.steps, values, strict=True)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{classes}" points="{path}"/>')
        parts += [
            f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="{_MARK:g}"/>'
            for x, y in points
        ]
    keys = [
        f'<li><svg viewBox="0 0 36 10" aria-hidden="true"><polyline class="{classes}" '
        f'points="0,5 36,5"/></svg> {escape(name)}</li>'
        for name, classes, _ in lines(curve)
    ]
    begin = (
        f'<svg class="curve" role="img" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        f'aria-label="{escape(seen(curve))}">'
    )
    caption = f"<figcaption>{_CAPTION}</figcaption>"
    drawn = [caption, begin, *parts, "</svg>", '<ul class="keys">', *keys, "</ul>"]
    return Markup("\n".join(drawn))


def _axes(steps: Sequence[int]) -> Iterator[str]:
    """Yield a line and a label for each tick, and the title of the axis along x."""
    for tick in _TICKS:
        y = f"{_y(tick):.1f}"
        yield f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y}" y2="{y}"/>'
        yield f'<text class="left" x="{_LEFT - 8:g}" y="{_y(tick) + 5:.1f}">{tick:.0%}</text>'
    for step in _labelled(steps):
        yield f'<text x="{_x(step, steps[-1]):.1f}" y="{_HEIGHT - _BOTTOM + 22:g}">{step}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text x="{middle:g}" y="{_HEIGHT - 6:g}">steps of learning from other images</text>'


def _labelled(steps: Sequence[int]) -> Sequence[int]:
    """Return the steps with a label: measured ones, the first and the last among them."""
    apart = -(-(len(steps) - 1) // (_LABELS - 1))
    room = steps[apart] / 2  # the last distance may be shorter than the others
    return [*(step for step in steps[::apart] if steps[-1] - step >= room), steps[-1]]


def _x(step: float, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last


def _y(value: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value)
