"""Decoded images of a node, in Arrow files mapped into memory: decoded once, read by all.

The files of one transform are in folders of the command's `CacheSpace`: in memory while there is
space, else on the local disk. All workers, groups, methods and seeds of a node read the same
files. Where room is short, files that no process uses are removed, the least recently used first.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import FORGET
from lotus_ray.data.pixels.allocate import allocate
from lotus_ray.data.pixels.cache_space import CacheSpace, Waiting, exclusive_lock
from lotus_ray.data.pixels.decode_task import Decode, DecodeTask
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.room import SUFFIX, Use, make_room
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles


@dataclass
class DecodedFiles:
    """The decoded images of some data sets by one transform, for a table of roles on this node."""

    cache_space: CacheSpace
    transform: Transform
    content: str = ""  # identifies the data sets: sample ids are unique only within them
    decoded: int = 0  # images that this object decoded; cached ones do not count
    removed: int = 0  # files that this object removed for its own
    bad: dict[str, str] = field(default_factory=dict)  # why an image cannot be decoded, by id
    _opened: set[Path] = field(default_factory=set)
    _blocks: list[np.ndarray] = field(default_factory=list)  # uint8 [n, 3, H, W] each, read-only
    _ids: list[pa.Array] = field(default_factory=list)  # of each block
    _paths: list[Path] = field(default_factory=list)  # of each block
    _use: Use | None = None

    def ensure(
        self,
        row_groups: Sequence[RowGroupImages],
        roles: Roles,
        decode: Decode,
        max_bad: int = 0,
        window: int | None = None,
        waiting: Waiting = nullcontext,
        own: np.ndarray | None = None,
        may_remove: bool = True,
    ) -> None:
        """Decode the images that are not cached yet. Other processes of the node wait meanwhile.

        Args:
            row_groups: of all images in the table of roles.
            roles: the table of roles.
            decode: runs tasks, here or on Ray.
            max_bad: accept up to this many images that cannot be decoded.
            window: if all images do not fit, leave retained images out: they can stream in windows
                of this many images. Memory is kept free for the windows. None: all must fit.
            waiting: returns a context that is open while another process of the node decodes.
            own: if all images do not fit, these retained images come first, bool [N]: other nodes
                keep the others. Default: all are alike.
            may_remove: remove files that no process uses, where room is short.

        Raises:
            ImagesDoNotFit: there is no room for them, beside those that are in use.
            DataError: a forget image, or more than `max_bad` images, cannot be decoded.
        """
        memory, disk = self._folders()
        for folder in (memory, disk):
            folder.mkdir(exist_ok=True)
        with exclusive_lock(self.cache_space.memory, waiting):  # all share the limits of the node
            for unfinished in (p for f in (memory, disk) for p in f.glob(".*")):
                unfinished.unlink(missing_ok=True)  # of a process that was killed
            self._open()
            missing = self._missing(row_groups, roles)
            while may_remove and self._make_room(missing, roles, all_or_nothing=window is None):
                missing = self._missing(row_groups, roles)
            image_bytes = self.transform.image_bytes
            tasks = [
                DecodeTask(
                    row_group, _new_file(folder), self.transform, max_bad > 0, folder == disk
                )
                for row_group, folder in allocate(
                    missing, roles, self.cache_space, (memory, disk), image_bytes, window, own
                )
            ]
            self.decoded += sum(decode(tasks))
            self._open()
            self._keep_only(self._needed(roles))
            self.use()
        self._check_bad(roles, max_bad)

    def use(self) -> bool:
        """Say that this process uses the files: others of the node do not remove them.

        Returns:
            False if some were removed since `rest`. What this process has mapped stays whole, but
            takes room that nobody counts: forget this object, and make another one.
        """
        before, self._use = self._use, Use(self.cache_space, set(self._paths))
        if before is not None:
            before.end()
        return self._use.is_whole()

    def rest(self) -> None:
        """Say that this process does not need the files now."""
        if self._use is not None:
            self._use.end()
        self._use = None

    def bad_among(self, roles: Roles) -> dict[str, str]:
        """Return why samples of a table of roles cannot be decoded, by sample id."""
        names = set(roles.sample_ids) if self.bad else set()
        return {name: reason for name, reason in self.bad.items() if name in names}

    def pixels(self, roles: Roles) -> Pixels:
        """Return the cached pixels of a table of roles."""
        starts = np.cumsum([0, *(len(block) for block in self._blocks)])
        indices = self._cached_indices(roles)
        block = np.searchsorted(starts, indices, side="right") - 1  # −1 where an index is −1
        return Pixels(self._blocks, block, indices - starts[block], self.transform.shape)

    def _folders(self) -> tuple[Path, Path]:
        key = json.dumps([self.content, self.transform.spec()], sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.cache_space.memory / name, self.cache_space.disk / name

    def _missing(self, row_groups: Sequence[RowGroupImages], roles: Roles) -> list[RowGroupImages]:
        """Return the images that are not cached, by row group."""
        cached = self._cached_indices(roles) >= 0
        parts = (row_group.only(~cached[row_group.rows]) for row_group in row_groups)
        return [part for part in parts if len(part)]

    def _make_room(
        self, missing: Sequence[RowGroupImages], roles: Roles, all_or_nothing: bool
    ) -> bool:
        """Remove files that are not in use, if missing images do not fit. Return True if any was.

        A file of which only a part is needed goes last, and its images are missing then.
        """
        sizes = [len(part) * self.transform.image_bytes for part in missing]
        if not sizes:
            return False
        needed = self._needed(roles)
        self._keep_only(needed)
        removed = make_room(self.cache_space, sizes, needed, all_or_nothing)
        self._keep_only(set(self._paths) - set(removed))
        self.removed += len(removed)
        return bool(removed)

    def _needed(self, roles: Roles) -> dict[Path, float]:
        """Return which part of each file a table of roles needs, if it needs any."""
        counts, needed = Counter[Path](), Counter[Path]()
        wanted = self.pixels(roles).block
        of_block = np.bincount(wanted[wanted >= 0], minlength=len(self._blocks))
        for path, block, part in zip(self._paths, self._blocks, of_block.tolist(), strict=True):
            counts[path] += len(block)
            needed[path] += part
        return {path: part / counts[path] for path, part in needed.items() if part}

    def _keep_only(self, paths: Collection[Path]) -> None:
        """Close the other files, so that they take no memory after they are removed."""
        kept = [number for number, path in enumerate(self._paths) if path in paths]
        self._blocks = [self._blocks[number] for number in kept]
        self._ids = [self._ids[number] for number in kept]
        self._paths = [self._paths[number] for number in kept]

    def _open(self) -> None:
        """Map the files that are not yet mapped."""
        for path in sorted(p for f in self._folders() for p in f.glob(f"*{SUFFIX}")):
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
                    # Copy the ids: in the file they are scattered between the pixels.
                    self._ids.append(pa.array(batch.column("sample_id").to_pylist(), pa.string()))
                    self._paths.append(path)
                    self._note_bad(batch)

    def _note_bad(self, batch: pa.RecordBatch) -> None:
        errors = batch.column("error")
        if errors.null_count < len(batch):
            named = zip(batch.column("sample_id").to_pylist(), errors.to_pylist(), strict=True)
            self.bad.update({sample_id: error for sample_id, error in named if error})

    def _cached_indices(self, roles: Roles) -> np.ndarray:
        """Return the index of each sample among the cached images, int64 [N]; −1 if not cached."""
        here = pa.chunked_array(self._ids, pa.string())
        result = pc.index_in(
            pa.array(roles.sample_ids, pa.string()), value_set=here.combine_chunks()
        )
        indices: np.ndarray = result.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return indices

    def _check_bad(self, roles: Roles, max_bad: int) -> None:
        result = self.bad_among(roles)
        forgotten = set(result) & {roles.sample_ids[row] for row in roles.indices(FORGET)}
        if forgotten or len(result) > max_bad:
            what = "a forget image is among them" if forgotten else f"{max_bad} are allowed"
            shown = "\n".join(result[i] for i in [*sorted(forgotten), *result][:5])
            raise DataError(f"{len(result)} images cannot be decoded; {what}:\n{shown}")


def _new_file(folder: Path) -> Path:
    return folder / f"{uuid.uuid4().hex}{SUFFIX}"
