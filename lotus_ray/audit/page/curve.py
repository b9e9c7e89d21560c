"""The relearn curve as a small figure: SVG in the page, so that nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from lotus_ray.audit.predicate import RelearnCurve

_WIDTH, _HEIGHT = 560.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 44.0
_MARK = 3.0  # radius
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LABELS = 5  # along x, about


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
    parts = [*_axes(curve.steps[-1])]
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
    return Markup("\n".join([begin, *parts, "</svg>", '<ul class="keys">', *keys, "</ul>"]))


def _axes(last: int) -> Iterator[str]:
    """Yield a line and a label for each tick, and the title of the axis along x."""
    for tick in _TICKS:
        y = f"{_y(tick):.1f}"
        yield f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y}" y2="{y}"/>'
        yield f'<text class="left" x="{_LEFT - 8:g}" y="{_y(tick) + 4:.1f}">{tick:.0%}</text>'
    for step in _steps(last):
        yield f'<text x="{_x(step, last):.1f}" y="{_HEIGHT - _BOTTOM + 18:g}">{step}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text x="{middle:g}" y="{_HEIGHT - 6:g}">steps of learning from other images</text>'


def _steps(last: int) -> Sequence[int]:
    """Return the labels along x: the first and the last step among them."""
    count = min(_LABELS, last + 1)
    return sorted({round(last * each / (count - 1)) for each in range(count)})


def _x(step: float, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last


def _y(value: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value)
