"""The ids of each request: which are training images, and which are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.data.roles.id_files import read_sample_ids
from lotus_ray.data.sources import TRAIN

_NAMED = 5


@dataclass(frozen=True)
class AskedIds:
    """The ids of one request, each once, and what became of them."""

    request_id: str
    asked: tuple[str, ...]  # in the order of the file
    found: tuple[str, ...]  # training images, to forget now
    missing: tuple[str, ...]  # no image has this id
    held_out: tuple[str, ...]  # never trained on
    before: tuple[str, ...] = ()  # found, and an earlier record forgot them too
    repeated: int = 0  # lines that name an id again
    shared: tuple[str, ...] = field(default=())  # that another request names too

    def lines(self) -> list[str]:
        """Return a line for people about each thing that is not as it should be."""
        counts = (
            (len(self.missing), "are the id of no image", self.missing),
            (len(self.held_out), "are held out: nothing was learned from them", self.held_out),
            (len(self.before), "were forgotten by an earlier request, and are again", self.before),
            (len(self.shared), "are in another request of this run too", self.shared),
        )
        lines = [
            f"request {self.request_id}: {count} of {len(self.asked)} ids {what}: {_listed(ids)}"
            for count, what, ids in counts
            if count
        ]
        if self.repeated:
            lines.append(f"request {self.request_id}: {self.repeated} lines name an id again")
        return lines


def read_requests(files: Sequence[Path], names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the name of each request and the ids of its file.

    Raises:
        DataError: a file cannot be read, or holds no id.
    """
    return [(name, read_sample_ids(file).ids) for name, file in zip(names, files, strict=True)]


def find_ids(
    requests: Iterable[tuple[str, Sequence[str]]], labels: pa.Table, earlier: Collection[str]
) -> list[AskedIds]:
    """Look up the ids of requests among the images.

    Args:
        requests: name and ids of each.
        labels: sample_id and split of every image.
        earlier: ids of images that earlier records forgot.
    """
    requests = list(requests)
    split_of = dict(zip(labels["sample_id"].to_pylist(), labels["split"].to_pylist(), strict=True))
    named = Counter(each for _, ids in requests for each in dict.fromkeys(ids))
    result = []
    for name, ids in requests:
        asked = tuple(dict.fromkeys(ids))
        here = [each for each in asked if each in split_of]
        in_training = [each for each in here if split_of[each] == TRAIN]
        result.append(
            AskedIds(
                request_id=name,
                asked=asked,
                found=tuple(in_training),
                missing=tuple(each for each in asked if each not in split_of),
                held_out=tuple(each for each in here if split_of[each] != TRAIN),
                before=tuple(each for each in in_training if each in earlier),
                repeated=len(ids) - len(asked),
                shared=tuple(each for each in asked if named[each] > 1),
            )
        )
    return result


def check_found(
    requests: Sequence[AskedIds], labels: pa.Table, allow_missing: bool, where: str
) -> None:
    """Check that there is something to forget, and that no id is unknown unless that is allowed.

    Raises:
        DataError: no id is left to forget, or some are the id of no image.
    """
    missing = [each for request in requests for each in request.missing]
    known: list[str] = labels["sample_id"].to_pylist()
    if missing and not allow_missing:
        raise DataError(
            f"{len(missing)} ids to forget are not in the data set: {_listed(missing)}",
            where=where,
            nearest=_like(missing[0], known),
            next_command="mend the ids, or add --allow-missing: the record counts them as missing",
        )
    if not any(request.found for request in requests):
        raise DataError(
            "none of these ids is a training image",
            where=where,
            nearest=_like(missing[0], known) if missing else "",
        )


def _like(name: str, known: Sequence[str]) -> str:
    """Return the known id that ends like a name, or else is spelt like it."""
    tail = name.rpartition("/")[2]
    ending = [each for each in known if each.rpartition("/")[2] in (name, tail)]
    return ending[0] if ending else nearest(name, known[:20_000])


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
