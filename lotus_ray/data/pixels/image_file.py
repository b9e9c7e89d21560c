"""A file of decoded images on a node: written in one step, into space that is set aside first."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.transform import Transform

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Batch(NamedTuple):
    """Some decoded images, n of them."""

    sample_ids: Sequence[str]
    pixels: np.ndarray  # uint8 [n, 3, H, W]; 0 where an image cannot be decoded
    errors: Sequence[str | None]  # why an image cannot be decoded


def write_images(path: Path, transform: Transform, count: int, batches: Iterable[Batch]) -> None:
    """Write decoded images to a file, which appears whole or not at all.

    Its columns are `sample_id`, `pixels` (3·H·W bytes, channels first) and `error`. The space for
    all pixels is set aside before the first one is made, so a full disk is known at once.

    Args:
        path: of the file.
        transform: that makes the pixels.
        count: of all images.
        batches: of the images.

    Raises:
        DataError: the file cannot be written. Or `batches` raised it.
    """
    schema = pa.schema(
        [
            ("sample_id", pa.string()),
            ("pixels", pa.binary(transform.image_bytes)),
            ("error", pa.string()),
        ]
    )
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with temporary.open("xb", buffering=0) as raw:
            _set_aside(raw.fileno(), count * transform.image_bytes)
            with pa.PythonFile(raw, "w") as file, pa.ipc.new_file(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(_record_batch(batch, schema))
        temporary.rename(path)
    except OSError as error:
        raise DataError(
            f"decoded images cannot be written: {error.strerror or error}; "
            f"{count * transform.image_bytes} bytes are needed",
            where=str(path.parent),
            next_command="lotus-ray grid JOB.yaml --set resources.scratch=FOLDER",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _set_aside(descriptor: int, size: int) -> None:
    """Allocate the first `size` bytes of a file. Some systems cannot: they are left alone.

    Raises:
        OSError: there is no room.
    """
    try:
        if size and hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in _FULL:
            raise


def _record_batch(batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
    column = pa.FixedSizeBinaryArray.from_buffers(
        schema.field("pixels").type, len(batch.sample_ids), [None, pa.py_buffer(batch.pixels)]
    )
    ids = pa.array(list(batch.sample_ids), pa.string())
    return pa.record_batch([ids, column, pa.array(list(batch.errors), pa.string())], schema=schema)
