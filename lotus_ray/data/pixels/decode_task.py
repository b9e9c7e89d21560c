"""Decode images of one row group into one file."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.row_groups import Encoded, RowGroupImages
from lotus_ray.data.pixels.transform import Transform


@dataclass(frozen=True)
class DecodeTask:
    """One file to write: the images of a row group.

    Its columns are `sample_id`, `pixels` (3·H·W bytes, channels first) and `error` (why an image
    cannot be decoded; null if it can).
    """

    row_group: RowGroupImages
    path: Path
    transform: Transform
    keep_going: bool  # after an image that cannot be decoded

    def run(self, threads: int = 1) -> int:
        """Write the file in one step; return how many images it holds.

        Args:
            threads: that decode.

        Raises:
            DataError: an image cannot be decoded, or the file cannot be written.
        """
        schema = pa.schema(
            [
                ("sample_id", pa.string()),
                ("pixels", pa.binary(self.transform.image_bytes)),
                ("error", pa.string()),
            ]
        )
        temporary = self.path.with_name(f".{uuid.uuid4().hex}")
        try:
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
                for encoded in self.row_group.read():
                    writer.write_batch(self._batch(encoded, schema, threads))
            temporary.rename(self.path)
        except OSError as error:
            raise DataError(
                f"decoded images cannot be written: {error.strerror or error}; "
                f"{len(self.row_group) * self.transform.image_bytes} bytes are needed",
                where=str(self.path.parent),
                next_command="lotus-ray grid JOB.yaml --set resources.scratch=FOLDER",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return len(self.row_group)

    def _batch(self, encoded: Encoded, schema: pa.Schema, threads: int) -> pa.RecordBatch:
        """Decode images to rows of the file; one by one if one of them is bad."""
        errors: list[str | None] = [None] * len(encoded)
        try:
            pixels = encoded.decode(self.transform, threads)
        except DataError:
            if not self.keep_going:
                raise
            pixels, errors = self._decode_singly(encoded)
        column = pa.FixedSizeBinaryArray.from_buffers(
            schema.field("pixels").type, len(encoded), [None, pa.py_buffer(pixels)]
        )
        return pa.record_batch(
            [pa.array(encoded.sample_ids), column, pa.array(errors, pa.string())], schema=schema
        )

    def _decode_singly(self, encoded: Encoded) -> tuple[np.ndarray, list[str | None]]:
        """Decode one by one; return pixels (0 for bad images) and errors."""
        pixels = np.zeros((len(encoded), *self.transform.shape), dtype=np.uint8)
        errors: list[str | None] = []
        for index in range(len(encoded)):
            try:
                pixels[index] = encoded.part(slice(index, index + 1)).decode(self.transform)[0]
                errors.append(None)
            except DataError as error:
                errors.append(str(error))
        return pixels, errors


Decode = Callable[[Sequence[DecodeTask]], Iterable[int]]  # yields numbers of images, file by file


def decode_here(tasks: Sequence[DecodeTask], threads: int = 1) -> Iterable[int]:
    """Run tasks in this process, one after another, each on `threads` threads."""
    return (task.run(threads) for task in tasks)


def announcing(decode: Decode, say: Callable[[str], None]) -> Decode:
    """Return a function that decodes, and first says how many images."""

    def announce(tasks: Sequence[DecodeTask]) -> Iterable[int]:
        if tasks:
            say(f"decoding {sum(len(task.row_group) for task in tasks):,} images")
        return decode(tasks)

    return announce
