"""A strip of forgotten images, with the answers of the original, an unlearned model, and gold."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from lotus_ray.base.errors import LotusRayError, StoreError
from lotus_ray.base.roles import FORGET
from lotus_ray.data.prepared.find_images import find_images
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.metrics.outputs import SAMPLES
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.resolution import idle
from lotus_ray.report.setting_words import setting_in_words
from lotus_ray.store.origin import Origin
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

MOST = 12  # images
_TOLD_APART = 6  # at most so many of them are images that gold answers otherwise
_SIDE = 64  # pixels
_TINY = 32  # an image of no more pixels is kept as it is, and shown with hard edges
Answers = Mapping[str, tuple[int, int, float | None]]  # label, answer and confidence, by image


@dataclass(frozen=True)
class Answer:
    """What a model calls an image."""

    who: str
    text: str
    is_right: bool


@dataclass(frozen=True)
class Picture:
    """A forgotten image."""

    source: str  # a data address
    is_tiny: bool
    label: str
    answers: list[Answer]


@dataclass(frozen=True)
class Strip:
    """Forgotten images, or why there are none."""

    pictures: list[Picture] = field(default_factory=list)
    caption: str = ""


class Pictures:
    """Makes the strips of a page. Manifests are read once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def _manifests(self) -> dict[str, Manifest]:
        """The data sets of the store that are here, by digest."""
        found: dict[str, Manifest] = {}
        for folder in map(Path, Origin.read(self._store).folders):
            moved = Path(self._store.folder or "", "data", folder.name)  # with the whole store
            for place in (folder, moved):
                try:
                    manifest = read_manifest(place)
                except LotusRayError:
                    continue
                found.setdefault(manifest.digest, manifest)
        return found

    def of(self, group: Group) -> Strip:
        """Return the strip of a table, of one seed."""
        lines = _lines(group)
        seed = next(iter(group.seeds), None)
        rows = [(entry, row) for entry in lines if (row := entry.rows.get(seed or 0)) and row.is_ok]
        if seed is None or len(rows) < 2:
            return Strip()
        if setting_in_words(group.setting) == group.setting:
            # Only what the benchmark drew is shown: others may be those of a deletion request.
            return Strip([], "Forgotten images are not shown: somebody may have asked for them.")
        manifest = self._manifests.get(str(rows[0][1].spec.get("data")))
        if manifest is None:
            return Strip(
                [], "Forgotten images are not shown: the store does not say where they are."
            )
        try:
            answers = [(entry, self._answers(row)) for entry, row in rows]
            chosen, caption = _choose(answers)
            images = find_images(manifest, chosen)
        except (LotusRayError, OSError, ValueError, KeyError) as error:
            return Strip([], f"Forgotten images are not shown: {getattr(error, 'what', error)}.")
        names = manifest.titles or manifest.classes
        pictures = [
            _picture(source, name, answers, names)
            for name in chosen
            if name in images and (source := _thumbnail(images[name])) is not None
        ]
        return Strip(pictures, f"{caption} Seed {seed}.")

    def _answers(self, row: Row) -> Answers:
        """Return what the model of a row calls each forgotten image."""
        if SAMPLES not in row.artifacts:
            raise StoreError("the store has no outputs of samples")
        table = pq.read_table(
            io.BytesIO(self._store.artifact(row, SAMPLES)), filters=[("role", "=", FORGET)]
        )
        has_confidence = "confidence" in table.schema.names
        return {
            each["sample_id"]: (
                each["labels"],
                each["predicted"],
                each["confidence"] if has_confidence else None,
            )
            for each in table.to_pylist()
        }


def _lines(group: Group) -> list[Entry]:
    """Return the original, the unlearned model that is nearest to gold, and the gold standard."""
    still = idle(group)
    metric = "jsd" if any(entry.n("jsd") for entry in group.rivals) else "rf_jsd"
    rivals = [entry for entry in group.rivals if entry.n(metric)]
    moving = [entry for entry in rivals if entry.method not in still] or rivals
    nearest = min(moving, key=lambda entry: entry.mean(metric) or 0.0, default=None)
    return [entry for entry in (group.original, nearest, group.gold) if entry is not None]


def _choose(answers: Sequence[tuple[Entry, Answers]]) -> tuple[list[str], str]:
    """Return ids of at most MOST forgotten images, and how they were chosen.

    First come some that the last model answers otherwise than the first. The others are drawn by
    the SHA-256 of their ids, so that the same store has the same strip.
    """
    (_, first), *_, (end, last) = answers
    drawn = sorted(first, key=lambda name: hashlib.sha256(name.encode()).digest())
    differing = [name for name in drawn if name in last and last[name][1] != first[name][1]]
    shown = differing[:_TOLD_APART]
    rest = [name for name in drawn if name not in differing][: MOST - len(shown)]
    who = "the gold standard" if end.is_gold else end.method
    counts = f"{len(shown)} of these, and {len(rest)}" if shown else f"{len(rest)}"
    return [*shown, *rest], (
        f"Of {len(drawn):,} forgotten images, {who} answers {len(differing)} otherwise than the "
        f"original does. Shown: {counts} others drawn by chance. Red: not the label."
    )


def _picture(
    source: tuple[str, bool],
    name: str,
    answers: Sequence[tuple[Entry, Answers]],
    names: Sequence[str],
) -> Picture:
    """Return a thumbnail with the answer of each model to it."""
    label = answers[0][1][name][0]
    told = []
    for entry, by_image in answers:
        if name in by_image:
            _, answer, sure = by_image[name]
            text = _class(names, answer) + ("" if sure is None else f" {sure:.0%}")
            told.append(Answer(entry.method, text, answer == label))
    return Picture(*source, _class(names, label), told)


def _class(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _thumbnail(content: bytes) -> tuple[str, bool] | None:
    """Return an image as a data address, and whether it is tiny; None if it cannot be decoded."""
    out = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
        is_tiny = max(image.size) <= _TINY
        image.thumbnail((_SIDE, _SIDE))
        kind = "PNG" if is_tiny else "JPEG"
        image.save(out, kind, **({"optimize": True} if is_tiny else {"quality": 82}))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    encoded = base64.b64encode(out.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}", is_tiny
