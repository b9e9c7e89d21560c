"""Decoded images of a node in Arrow files mapped into memory: each decoded once, read by all.

The files of one transform lie in folders of the command's `CacheSpace`: in memory while there is
space, else on the local disk. All workers, groups, methods and seeds of a node read the same
files.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import FORGET, OTHER_TRAIN, RETAIN, STORED
from lotus_ray.data.pixels.cache_space import CacheSpace, exclusive_lock
from lotus_ray.data.pixels.decode_task import Decode, DecodeTask
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles

_MAY_STREAM = (
    RETAIN,
    OTHER_TRAIN,
)  # images of these roles are met once an epoch; of others, more often


_SUFFIX = ".arrow"


WINDOWS_HELD = 3  # two that a batch may span, and what is decoded ahead


def _split_by_streaming(
    row_groups: Sequence[RowGroupImages], roles: Roles
) -> list[list[RowGroupImages]]:
    may = np.isin(roles.roles, [STORED.index(role) for role in _MAY_STREAM])
    return [
        [row_group.only(may[row_group.rows] == streams) for row_group in row_groups]
        for streams in (False, True)
    ]


def _new_file(folder: Path) -> Path:
    return folder / f"{uuid.uuid4().hex}{_SUFFIX}"


@dataclass
class DecodedFiles:
    """The decoded images of some data sets by one transform, on this node.

    `content` identifies the data sets: sample ids are unique in them alone. `decoded` counts the
    images that this object decoded, not those it found; `bad` says by sample id why an image
    cannot be decoded.
    """

    cache_space: CacheSpace
    transform: Transform
    content: str = ""
    decoded: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    _opened: set[Path] = field(default_factory=set)
    _blocks: list[np.ndarray] = field(default_factory=list)  # uint8 [n, 3, H, W] each, read-only
    _ids: list[pa.Array] = field(default_factory=list)  # of each block

    def ensure(
        self,
        row_groups: Sequence[RowGroupImages],
        roles: Roles,
        decode: Decode,
        max_bad: int = 0,
        window: int | None = None,
    ) -> None:
        """Decode what is wanted and not here yet; other processes of the node wait meanwhile.

        Args:
            row groups: of all images in the table of roles.
            roles: the table of roles.
            decode: runs tasks, here or on Ray.
            max_bad: pass over so many images that cannot be decoded.
            window: leave retained images out that there is no room for, since they may stream in
                windows of so many; memory is kept free for those.

        Raises:
            DataError: there is no room; more images cannot be decoded, or one to forget.
        """
        memory, disk = self._folders()
        for folder in (memory, disk):
            folder.mkdir(exist_ok=True)
        with exclusive_lock(self.cache_space.memory):  # all groups of the node share its budgets
            for unfinished in (p for f in (memory, disk) for p in f.glob(".*")):
                unfinished.unlink(missing_ok=True)  # of a process that was killed
            self._open()
            places = self._places(roles)
            missing = [
                p
                for p in (row_group.only(places[row_group.rows] < 0) for row_group in row_groups)
                if len(p)
            ]
            tasks = [
                DecodeTask(row_group, _new_file(folder), self.transform, keep_going=max_bad > 0)
                for row_group, folder in self._placed(missing, roles, window)
            ]
            self.decoded += sum(decode(tasks))
            self._open()
        self._check_bad(roles, max_bad)

    def bad_among(self, roles: Roles) -> dict[str, str]:
        """Return why samples of a table of roles cannot be decoded, by id."""
        names = set(roles.sample_ids) if self.bad else set()
        return {name: reason for name, reason in self.bad.items() if name in names}

    def pixels(self, roles: Roles) -> Pixels:
        """Return the pixels of a table of roles, as far as they are here."""
        starts = np.cumsum([0, *(len(block) for block in self._blocks)])
        places = self._places(roles)
        block = np.searchsorted(starts, places, side="right") - 1  # −1 where places are
        return Pixels(self._blocks, block, places - starts[block], self.transform.shape)

    def _folders(self) -> tuple[Path, Path]:
        key = json.dumps([self.content, self.transform.spec()], sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.cache_space.memory / name, self.cache_space.disk / name

    def _open(self) -> None:
        """Map the files that are not yet mapped."""
        for path in sorted(p for f in self._folders() for p in f.glob(f"*{_SUFFIX}")):
            if path in self._opened:
                continue
            self._opened.add(path)
            with pa.memory_map(str(path)) as file:
                reader = pa.ipc.open_file(file)
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    buffer = batch.column("pixels").buffers()[1]
                    pixels = np.frombuffer(
                        buffer, np.uint8, len(batch) * self.transform.image_bytes
                    )
                    self._blocks.append(pixels.reshape(len(batch), *self.transform.shape))
                    # A copy, so that what is searched does not lie between the pixels.
                    self._ids.append(pa.array(batch.column("sample_id").to_pylist(), pa.string()))
                    self._note_bad(batch)

    def _note_bad(self, batch: pa.RecordBatch) -> None:
        errors = batch.column("error")
        if errors.null_count < len(batch):
            named = zip(batch.column("sample_id").to_pylist(), errors.to_pylist(), strict=True)
            self.bad.update({sample_id: error for sample_id, error in named if error})

    def _places(self, roles: Roles) -> np.ndarray:
        """Return the place of each sample among those here, int64 [N]; −1 where it is not."""
        here = pa.chunked_array(self._ids, pa.string())
        result = pc.index_in(
            pa.array(roles.sample_ids, pa.string()), value_set=here.combine_chunks()
        )
        places: np.ndarray = result.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return places

    def _placed(
        self, row_groups: list[RowGroupImages], roles: Roles, window: int | None
    ) -> list[tuple[RowGroupImages, Path]]:
        """Choose a folder for each row group: memory, then the disk; what may stream comes last.

        Raises:
            DataError: what cannot be left out does not fit.
        """
        memory, disk = self._folders()
        cache_space = {memory: self.cache_space.memory_left(), disk: self.cache_space.disk_left()}
        need = sum(map(len, row_groups)) * self.transform.image_bytes
        groups = [row_groups]
        if window is not None and need > sum(cache_space.values()):
            windows = window * WINDOWS_HELD * self.transform.image_bytes
            if windows > self.cache_space.memory_bytes:
                raise self._no_cache_space(need, 0, cache_space[disk], window)
            cache_space[memory] = max(cache_space[memory] - windows, 0)
            groups = _split_by_streaming(row_groups, roles)
        left = dict(cache_space)
        placed = []
        for streams, group in enumerate(groups):
            for row_group in (row_group for row_group in group if len(row_group)):
                size = len(row_group) * self.transform.image_bytes
                folder = next((folder for folder in left if size <= left[folder]), None)
                if folder is None and not streams:
                    raise self._no_cache_space(need, cache_space[memory], cache_space[disk], window)
                if folder is not None:
                    left[folder] -= size
                    placed.append((row_group, folder))
        return placed

    def _no_cache_space(self, need: int, memory: int, disk: int, window: int | None) -> DataError:
        kept = "" if window is None else f", beside {WINDOWS_HELD} windows of {window} images"
        advice = (
            "resources.scratch=FOLDER (on a larger disk)"
            if window is not None
            else "dataset.shuffle_window=4096 (lets retained images stream)"
        )
        return DataError(
            f"decoded images need {need} bytes; there is room for {memory} in memory"
            f"{kept}, and for {disk} on the disk",
            where=f"{self.cache_space.memory.parent} and {self.cache_space.scratch}",
            nearest="resources.decoded_memory_gb, resources.decoded_disk_gb, resources.scratch",
            next_command=f"lotus-ray grid JOB.yaml --set {advice}",
        )

    def _check_bad(self, roles: Roles, max_bad: int) -> None:
        result = self.bad_among(roles)
        forgotten = set(result) & {roles.sample_ids[row] for row in roles.indices(FORGET)}
        if forgotten or len(result) > max_bad:
            what = "one to forget is among them" if forgotten else f"{max_bad} are allowed"
            shown = "\n".join(result[i] for i in [*sorted(forgotten), *result][:5])
            raise DataError(f"{len(result)} images cannot be decoded; {what}:\n{shown}")
