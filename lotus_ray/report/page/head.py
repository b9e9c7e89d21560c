"""The head of the page: a summary of the store, and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lotus_ray.base.roles import ROLES
from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group, groups, workers_of
from lotus_ray.report.page.tables import page_columns
from lotus_ray.store.row import Row

_MOST = 12  # names in one list


def facts(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return names and values: cells, benchmarks, seeds, devices, versions, times."""
    rows = [row for entry in entries for row in entry.rows.values()]
    done = sum(row.is_ok for row in rows)
    result = [
        ("cells", f"{done} done, {len(rows) - done} failed"),
        ("tables", str(len(groups(entries)))),
        ("benchmarks", _names(entry.benchmark for entry in entries)),
        ("models", _names(entry.model for entry in entries)),
        ("seeds", _names(str(seed) for seed in sorted({row.seed for row in rows}))),
        ("devices", _names(_device(row) for row in rows)),
        ("versions", _versions(rows)),
        ("committed", _when(rows)),
    ]
    return [(name, value) for name, value in result if value]


def legend(tables: Iterable[Group]) -> list[tuple[str, str, str]]:
    """Return heading, meaning, and the better direction of each column of some tables."""
    columns = dict.fromkeys(name for group in tables for name in page_columns(group))
    return [
        (metric.heading, metric.about, metric.better)
        for metric in (METRICS[name] for name in columns)
    ]


def roles_of(group: Group) -> list[str]:
    """Say which images each role has, and what MIA is; with counts, if they are known."""
    counts = {role: f"{count:,} " for role, count in group.samples.items()}
    forget, retain, unseen, test = (counts.get(role, "some ") for role in ROLES)
    return [
        f"Training images: {forget}to forget and {retain}to retain. The original learned from "
        "both, the gold standard from those to retain alone.",
        f"Held-out images, which no model learned from: {unseen}unseen, which methods may use, and "
        f"{test}for the test. Each class is halved; an odd image is unseen.",
        "MIA is the share of the forget set that an attack takes for training images. It takes "
        "many unseen images for that too, so compare it with gold. AUC says how well the attack "
        "tells the two apart: 0.5 is chance.",
    ]


def smoke(entries: Iterable[Entry]) -> int:
    """Return how many cells used only a part of their samples."""
    return sum(bool(row.smoke) for entry in entries for row in entry.rows.values())


def _names(values: Iterable[str]) -> str:
    """Return each name once, in order; of many names, the first ones."""
    result = [name for name in dict.fromkeys(values) if name]
    rest = len(result) - _MOST
    return ", ".join(result[:_MOST]) + (f" and {rest} more" if rest > 0 else "")


def _device(row: Row) -> str:
    device = row.resources.device
    return f"{workers_of(row)} × {device}" if device else ""


def _versions(rows: Sequence[Row]) -> str:
    """Return each package with all its versions in the rows."""
    result: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, version in row.versions.items():
            result.setdefault(name, {})[str(version)] = None
    return "; ".join(f"{name} {_names(versions)}" for name, versions in result.items())


def _when(rows: Sequence[Row]) -> str:
    times = sorted(row.committed_at for row in rows if row.committed_at)
    if not times:
        return ""
    first, last = (time.replace("T", " ").removesuffix("+00:00") for time in (times[0], times[-1]))
    if first == last:
        return f"{first} UTC"
    is_one_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if is_one_day else last} UTC"
