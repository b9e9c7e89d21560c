"""Different forget sets that have one name: files of one name, or five people of two jobs.

So are two retain sets of one forget set, where `retain.without` leaves out different images. Rows
of different sets must not stand in one line as if they were seeds of one experiment.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow.parquet as pq

from lotus_ray.base.roles import FORGET, RETAIN
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

_Name = tuple[str, str]  # benchmark and setting
# These are drawn anew for each seed, or name classes: they are no list that somebody made.
_DRAWN = ("instance_", "class_", "corrupted")
_OF_LIST, _CUT = "ids_", "_…"  # the file's stem, or the first of many values of `forget.by`
_RETAINED = "_retain"  # a retain set that is drawn for each seed
_DIGITS = 6


def named_apart(store: Store, rows: Sequence[Row]) -> list[Row]:
    """Return rows. A setting that names several sets of images gets the beginning of a digest.

    A forget set that somebody listed is the same for all seeds, so another one is another
    experiment. Sets that are drawn for each seed keep their name.

    Args:
        store: of the rows; it has the tables of roles.
        rows: of the report.

    Raises:
        StoreError: the store cannot be read.
    """
    by_name: dict[_Name, list[Row]] = {}
    for row in rows:
        if not row.smoke and not row.setting.startswith(_DRAWN):
            by_name.setdefault((row.benchmark, row.setting), []).append(row)
    unsure = {
        name: members for name, members in by_name.items() if len(set(map(_roles, members))) > 1
    }
    roles_of = {_roles(row): _listed_roles(row) for each in unsure.values() for row in each}
    digests = _digests(store, roles_of)
    ambiguous = {name for name, members in unsure.items() if _are_several(members, digests)}
    return [
        replace(row, setting=f"{row.setting}-{digest}")
        if (row.benchmark, row.setting) in ambiguous and (digest := digests.get(_roles(row)))
        else row
        for row in rows
    ]


def _are_several(rows: Iterable[Row], digests: Mapping[str, str]) -> bool:
    """Return True if rows of one name have several sets that were listed, not drawn.

    A set that two seeds have was not drawn. Sets of the only seed are told apart in any case.
    """
    pairs = {(digests[_roles(row)], row.seed) for row in rows if _roles(row) in digests}
    sets = {digest for digest, _ in pairs}
    is_listed = any(row.setting.startswith(_OF_LIST) or _CUT in row.setting for row in rows)
    is_shared = len(pairs) > len(sets)
    return len(sets) > 1 and (is_listed or is_shared or len({seed for _, seed in pairs}) == 1)


def _digests(store: Store, roles_of: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the beginning of a digest of each table of roles that is there.

    Args:
        store: of the tables.
        roles_of: the roles that count, by name of the table.
    """
    paths = {name: f"roles/{name}.parquet" for name in roles_of}
    contents = store.find_all(paths.values()) if paths else {}
    found = {}
    for name, path in paths.items():
        try:
            table = pq.read_table(io.BytesIO(contents[path]), columns=["sample_id", "role"])
        except (OSError, ValueError, KeyError):  # missing or torn: the name stays
            continue
        pairs = zip(table["role"].to_pylist(), table["sample_id"].to_pylist(), strict=True)
        text = "\n".join(sorted(f"{role} {each}" for role, each in pairs if role in roles_of[name]))
        found[name] = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return found


def _listed_roles(row: Row) -> Sequence[str]:
    """Return the roles whose images a list decides, the same for all seeds."""
    return (FORGET,) if _RETAINED in row.setting else (FORGET, RETAIN)


def _roles(row: Row) -> str:
    return str(row.spec.get("roles", ""))
