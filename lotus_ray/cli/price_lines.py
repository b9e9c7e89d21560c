"""The price of a grid, for people: all figures are rounded."""

from __future__ import annotations

from lotus_ray.job.cost import LEARNED, SCALED, TABLED
from lotus_ray.job.price import PLACES, Price
from lotus_ray.job.traffic import Traffic

SOURCES = {
    LEARNED: "learned from rows",
    SCALED: "tabled at the speed of rows of other methods: no row of these on this device yet",
    TABLED: "tabled at a rough speed: no row on this device yet",
}


def price_lines(price: Price) -> list[str]:
    """Return lines with the price of a grid; none if no cell will run."""
    if not price.costs:
        return []
    counts = price.cells_by_source
    sources = [f"{counts[source]} {text}" for source, text in SOURCES.items() if counts[source]]
    times = [f"{duration(price.seconds_on(places))} on {places}" for places in PLACES]
    return [
        f"to run: {len(price.costs)} cells, about {hours(price.hours, price.unit)}; "
        f"{price.committed} others have a row",
        f"costs on {price.device.name or 'a ' + price.unit}: " + "; ".join(sources),
        f"time on places that are never idle: about {', '.join(times)}; "
        f"the longest chain of cells takes {duration(price.longest_chain)}",
        *_traffic_lines(price.traffic),
    ]


def _traffic_lines(traffic: Traffic) -> list[str]:
    downloads = []
    if traffic.weights:
        downloads.append(f"about {size(traffic.weights)} of pretrained weights")
    if traffic.remote:
        downloads.append(f"at most {size(traffic.remote)} of Parquet files")
    files = f", from about {size(traffic.encoded)} of local files" if traffic.encoded else ""
    return [
        "to download, if this machine runs the cells: " + (" and ".join(downloads) or "nothing"),
        f"to decode: {traffic.images:,} images to {size(traffic.pixels)} of pixels{files}",
    ]


def duration(seconds: float) -> str:
    """Return seconds in the largest unit of which there are at least two: 90 s, 2 min, 2.5 h."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{rounded(seconds / length)} {unit}"
    return f"{rounded(seconds)} s"


def hours(value: float, unit: str) -> str:
    """Return hours of CPUs or GPUs, or minutes if there are less than two hours."""
    if value < 2:
        return f"{rounded(60 * value)} {unit}-minutes"
    return f"{rounded(value)} {unit}-hours"


def size(count: int) -> str:
    """Return a number of bytes in decimal units: 346 MB."""
    for unit, length in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= length:
            return f"{rounded(count / length)} {unit}"
    return f"{count} bytes"


def rounded(value: float) -> str:
    """Return a number with two figures, or all of its whole part."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.2g}'):g}"
