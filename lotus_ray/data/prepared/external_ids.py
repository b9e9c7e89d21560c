"""Names for external files, so that a row is known by file and place, wherever the files lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from lotus_ray.data.prepared.parquet import base_name


def short_names(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the name of each file; of those with one name, as many folders as tell them apart.

    Args:
        files: split and address of each file.

    Returns:
        0000.parquet, or a/train/0000.parquet where b/train/0000.parquet is of the same split; by
        address.
    """
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for split, file in files:
        alike[split, base_name(file)].append(file)
    names: dict[str, str] = {}
    for group in alike.values():
        parts = [(file.partition("?")[0] if "://" in file else file).split("/") for file in group]
        depth = 1
        while len({tuple(each[-depth:]) for each in parts}) < len(parts) and depth < max(
            map(len, parts)
        ):
            depth += 1
        names |= {file: "/".join(each[-depth:]) for file, each in zip(group, parts, strict=True)}
    return names
