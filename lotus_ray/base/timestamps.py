"""Timestamps as the store keeps them: UTC, ISO 8601, to the millisecond."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Return the timestamp of now."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_utc(text: str) -> str:
    """Return a time as a timestamp. One without a zone is UTC. Raise ValueError if it is none."""
    time = datetime.fromisoformat(text.strip())
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def unix_seconds(timestamp: object) -> float | None:
    """Return a timestamp as seconds since 1970, or None if it is not one."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None


def in_words(seconds: float) -> str:
    """Return a duration for people, in the largest unit with at least two: 12 min."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
