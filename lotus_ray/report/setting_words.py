"""The name of a setting in words: `instance_10pct` is "10 % of each class forgotten"."""

from __future__ import annotations

import re
from collections.abc import Callable

_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"
# What is forgotten stands at the beginning of a name, and how the data were changed behind it.
_FORGOTTEN: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (rf"instance_({_NUMBER})pct", lambda m: f"{m[1]} % of each class forgotten"),
    (
        r"instance_(\d+)perclass",
        lambda m: f"{m[1]} image{'' if m[1] == '1' else 's'} of each class forgotten",
    ),
    (r"class_([^_]+)", lambda m: f"class {m[1]} forgotten"),
    (r"class_([^_]+(?:_[^_]+)+)", lambda m: f"classes {m[1].replace('_', ', ')} forgotten"),
    (r"corrupted", lambda m: "images with wrong labels forgotten"),
)
_CHANGES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (rf"_retain({_NUMBER})pct", lambda m: f"{m[1]} % of the others retained"),
    (r"_retain(\d+)", lambda m: f"{m[1]} of the others of each class retained"),
    (
        r"_subset(all|\d+)\+(all|\d+)",
        lambda m: f"{m[1]} training and {m[2]} held-out images of each class",
    ),
    (
        r"_swap-([^_-]+)-([^_-]+)-(\d+(?:\.\d+)?)pct",
        lambda m: f"{m[3]} % of {m[1]} and {m[2]} swapped",
    ),
    (rf"_noise({_NUMBER})pct", lambda m: f"{m[1]} % of the labels wrong"),
    (r"_calibrated-([^_]+)", lambda m: f"calibrated on {m[1]}"),
    (r"_smoke(\d+)", lambda m: f"smoke test: {m[1]} images of each role"),
)


def setting_in_words(name: str) -> str:
    """Return a setting in words; a name that a job gave stays as it is.

    Args:
        name: of the setting, as in rows.
    """
    rest = name
    changes: list[str] = []
    while ending := _last_change(rest):
        rest, words = ending
        changes.insert(0, words)
    for pattern, words_of in _FORGOTTEN:
        match = re.fullmatch(pattern, rest)
        if match:
            return ", ".join([words_of(match), *changes])
    return name


def _last_change(name: str) -> tuple[str, str] | None:
    """Return a name without its last part, and that part in words; None if there is none."""
    for pattern, words_of in _CHANGES:
        match = re.search(f"{pattern}$", name)
        if match and match.start():
            return name[: match.start()], words_of(match)
    return None
