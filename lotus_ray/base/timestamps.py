"""Moments as the store keeps them: UTC, ISO 8601, to the millisecond."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Return this moment."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def moment(text: object) -> float | None:
    """Return the seconds since 1970 of a moment that the store keeps, or None if it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def in_words(seconds: float) -> str:
    """Return a duration for people, to the largest unit that is not 1 or less: 12 min."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
